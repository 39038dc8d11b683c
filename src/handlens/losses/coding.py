"""How a box is said relative to an anchor, and back."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# The inverse of the "variances" 0.1 and 0.2 of SSD's code: offsets of about unit size learn as fast as the classes.
CENTER, SIZE = 10.0, 5.0
LARGEST_LOG = math.log(1000 / 16)  # a box at most 62.5 times its anchor: exp must not overflow; torchvision's number


class Raw(NamedTuple):
    """What a one-stage detector's forward returns, the same in training and evaluation.

    offsets: (N, A, 4) as `decode_boxes` takes them.
    logits: (N, A, K + 1) with the background last for softmax scores; (N, A, K) for sigmoid scores.
    anchors: (A, 4) left, top, right, bottom; fractions of the net's input.
    """

    offsets: Tensor
    logits: Tensor
    anchors: Tensor


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The offsets that `decode_boxes` turns into these boxes.

    Args:
        boxes, anchors: (..., 4) left, top, right, bottom; the same unit; with an area.

    Returns:
        (..., 4) center x, center y, log width, log height; no unit.

    Source: Girshick et al. 2014, arXiv:1311.2524, appendix C; Liu et al. 2016, arXiv:1512.02325, section 2.2.
    The factors are from the authors' code, not the paper.
    """
    centers, sizes = _centers(boxes)
    anchor_centers, anchor_sizes = _centers(anchors)
    shift = CENTER * (centers - anchor_centers) / anchor_sizes
    return torch.cat([shift, SIZE * (sizes / anchor_sizes).log()], dim=-1)


def decode_boxes(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Turn predicted offsets into boxes.

    Args:
        offsets: (N, A, 4) center x, center y, log width, log height; no unit.
        anchors: (A, 4) left, top, right, bottom; fractions of the net's input.

    Returns:
        (N, A, 4) left, top, right, bottom; fractions, not clipped.

    Source: as `encode_boxes`, inverted.
    """
    anchor_centers, anchor_sizes = _centers(anchors)
    centers = anchor_centers + offsets[..., :2] / CENTER * anchor_sizes
    half = (offsets[..., 2:] / SIZE).clamp(max=LARGEST_LOG).exp() * anchor_sizes / 2
    return torch.cat([centers - half, centers + half], dim=-1)


def _centers(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centers (..., 2) and sizes (..., 2)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
