"""A trained classifier in bf16 against itself in float32, both by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.data.decode import decode
from handlens.flow.runs import build_from, find_run


def bf16_against_fp32(run: Path, files: Sequence[Path]) -> tuple[int, float]:
    """How many images get another label, and the mean difference of the probabilities."""
    opened = find_run(run)
    pixels = np.stack([opened.preprocess.pixels(decode(file)) for file in files])
    exact, rough = in_both(build_from(opened), opened.preprocess.normalize(pixels))
    return int((rough.argmax(dim=1) != exact.argmax(dim=1)).sum()), float((rough - exact).abs().mean())


def in_both(net: nn.Module, images: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Probabilities (N, K) in float32 and in bf16, of images (N, H, W, C) that are normalized."""
    net = net.to(memory_format=torch.channels_last)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        exact = net(inputs).softmax(dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(inputs)
    assert logits.dtype == torch.bfloat16
    return exact, logits.float().softmax(dim=1)
