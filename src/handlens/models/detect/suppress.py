"""Non-maximum suppression in static shapes, so that every runtime can do it."""

from __future__ import annotations

import torch
from torch import Tensor

from handlens.losses.overlap import box_iou

ROUNDS = 16


def best_boxes(
    boxes: Tensor, scores: Tensor, *, suppress: bool, threshold: float, candidates: int, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The likeliest boxes, likeliest first, padded with zeros.

    Args:
        boxes: (N, A, 4) left, top, right, bottom. scores: (N, A, K) in [0, 1].
        suppress: False leaves overlapping boxes in, for an app that suppresses by itself: then all candidates are
            returned.
        threshold: a box that overlaps a likelier one of its class by a larger IoU is suppressed.
        candidates: how many (box, class) are looked at. most: how many are left at the end.

    Returns:
        boxes (N, M, 4), scores (N, M), labels (N, M) int64. A score of 0 is padding, with box and label 0.
    """
    classes = scores.shape[2]
    flat = scores.flatten(1)
    best, index = flat.topk(min(candidates, flat.shape[1]))  # (N, T)
    labels = index % classes
    chosen = _take(boxes, torch.div(index, classes, rounding_mode="floor"))  # (N, T, 4)
    if suppress:
        best = best * keep_mask(chosen, labels, threshold=threshold)
        best, order = best.topk(min(most, best.shape[1]))
        labels, chosen = labels.gather(1, order), _take(chosen, order)
    real = best > 0
    return chosen * real[:, :, None], best, labels * real


def keep_mask(boxes: Tensor, labels: Tensor, *, threshold: float) -> Tensor:
    """Non-maximum suppression per class.

    keep = 1 - min(1, M @ keep), where M[i, j] = 1 if a better box j of the same class overlaps i. A box is settled one
    round after the boxes that decide about it; sixteen rounds settle every chain of that length.

    Args:
        boxes: (N, T, 4), best first. labels: (N, T).
        threshold: larger IoU is suppressed.

    Returns:
        (N, T) of the boxes' type: 1 keep, 0 suppressed.
    """
    overlaps = (box_iou(boxes, boxes) > threshold) & (labels[:, :, None] == labels[:, None, :])
    better = torch.ones(boxes.shape[1], boxes.shape[1], dtype=torch.bool, device=boxes.device).tril(-1)
    matrix = (overlaps & better).to(boxes.dtype)  # (N, T, T)
    keep = torch.ones_like(boxes[:, :, :1])
    for _ in range(ROUNDS):
        keep = 1 - (matrix @ keep).clamp(max=1)
    return keep[:, :, 0]


def _take(boxes: Tensor, index: Tensor) -> Tensor:
    """boxes (N, A, 4), index (N, T) -> (N, T, 4)."""
    return boxes.gather(1, index[:, :, None].expand(-1, -1, 4))
