"""Which anchor has to learn which box."""

from __future__ import annotations

import torch
from torch import Tensor

from handlens.losses.overlap import box_iou, share_inside

BACKGROUND, LEFT_OUT = -1, -2


def match(boxes: Tensor, labels: Tensor, anchors: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Give each anchor a box, the background, or nothing to learn.

    Each box first gets the anchor it overlaps best, the surest pair first, so that two boxes never want the same one;
    then every anchor whose IoU reaches the threshold gets the box it overlaps most.

    Args:
        boxes: (n, 4) left, top, right, bottom; fractions of the net's input.
        labels: (n,) class of each; below 0 for what is ignored, a crowd or an object marked difficult: neither
            expected nor background.
        anchors: (A, 4) as the boxes.

    Returns:
        (A,) int64: index into the boxes, BACKGROUND, or LEFT_OUT for an anchor that lies by more than half in an
        ignored box and has no other.

    Raises:
        ValueError: a box that is not finite or has no area, so that nothing could learn it.

    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2, "Matching strategy"; the order of the first step is that of
    the authors' code. Ignored boxes: as COCO's evaluator treats them.
    """
    for row in torch.nonzero(~(boxes.isfinite().all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)))[:1, 0].tolist():
        raise ValueError(f"box {row} must be finite with left < right and top < bottom, got {boxes[row].tolist()}")
    matched = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    expected = torch.nonzero(labels >= 0)[:, 0]
    ignored = boxes[labels < 0]
    if len(ignored):
        matched[share_inside(anchors, ignored).amax(dim=1) > 0.5] = LEFT_OUT
    if len(expected):
        iou = box_iou(boxes[expected], anchors)  # (n, A)
        best, index = iou.max(dim=0)
        matched = torch.where(best >= threshold, expected[index], matched)
        for _ in range(min(iou.shape)):
            row, column = divmod(int(iou.argmax()), iou.shape[1])
            if iou[row, column] <= 0:  # what is left overlaps no anchor that is left
                break
            matched[column] = expected[row]
            iou[row], iou[:, column] = -1, -1
    return matched
