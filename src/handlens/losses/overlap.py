"""How far boxes overlap, as tensors; `data.labels.overlap` has it for arrays.

In place of torchvision.ops: slow to import, and not a number between boxes without area, which pad a graph's answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-12  # area, so that nothing is divided by 0


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union: (..., n, 4) and (..., m, 4) left, top, right, bottom -> (..., n, m).

    0 between boxes without area.
    """
    inner = _inner(boxes, others)
    union = _areas(boxes)[..., :, None] + _areas(others)[..., None, :] - inner
    return inner / union.clamp(min=SMALLEST)


def share_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """The share of each box that lies in each other one; shapes as `box_iou`, 0 of a box without area."""
    return _inner(boxes, others) / _areas(boxes)[..., :, None].clamp(min=SMALLEST)


def _inner(boxes: Tensor, others: Tensor) -> Tensor:
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    sides = (high - low).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def _areas(boxes: Tensor) -> Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides[..., 0] * sides[..., 1]
