"""Any input size for nets that halve a map several times and double it again."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) with zeros below and at the right, so that both sides are multiples. The caller crops back."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
