"""What a one-stage detector is trained with: where the boxes are, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from handlens.losses.coding import Raw, encode_boxes
from handlens.losses.matching import LEFT_OUT, match

Target = tuple[Tensor, Tensor]
ClassLoss = Literal["mined", "focal"]

NEGATIVES = 3  # per positive, the hardest: Liu et al. 2016, section 2.2
LEAST_NEGATIVES = 3  # of an image without boxes, else it would teach nothing: the authors' SSDLite configuration
FOCUS, BALANCE = 2.0, 0.25  # gamma and alpha: Lin et al. 2017, arXiv:1708.02002, section 5.1


def box_losses(
    raw: Raw, targets: Sequence[Target], *, sigmoid: bool = False, classes: ClassLoss = "mined"
) -> tuple[Tensor, Tensor]:
    """Both parts of the loss, each a sum over the batch divided by the number of anchors that have a box.

    Args:
        sigmoid: whether the logits are a yes or no per class; else they are a softmax with the background last.
        classes: "mined": cross-entropy of the anchors that have a box and the three times as many others that are
            most wrong; "focal": of all anchors, weighed down where they are right already.

    Returns:
        smooth L1 of the offsets, and the loss of the classes; scalars in float32. Images without boxes count in the
        second alone.

    Raises:
        ValueError: another number of targets than of images, a label outside the classes, boxes without an area.

    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; Lin et al. 2017, arXiv:1708.02002, section 3.
    """
    if classes not in ("mined", "focal"):
        raise ValueError(f"classes must be 'mined' or 'focal', got {classes!r}")
    if len(targets) != len(raw.offsets):
        raise ValueError(f"targets must have one entry per image, got {len(targets)} for {len(raw.offsets)} images")
    background = raw.logits.shape[2] - (not sigmoid)
    located = raw.offsets.new_zeros((), dtype=torch.float32)
    wanted = torch.full(raw.logits.shape[:2], background, device=raw.logits.device)
    left_out = torch.zeros_like(wanted, dtype=torch.bool)
    for image, (boxes, labels) in enumerate(targets):
        if len(labels) and not -background <= int(labels.min()) <= int(labels.max()) < background:
            raise ValueError(
                f"image {image}: labels must be in [0, {background}), or -1 minus that, got {labels.tolist()}"
            )
        matched = match(boxes, labels, raw.anchors)
        positive = matched >= 0
        offsets = encode_boxes(boxes[matched[positive]], raw.anchors[positive])
        located = located + F.smooth_l1_loss(raw.offsets[image, positive].float(), offsets, reduction="sum")
        wanted[image, positive] = labels[matched[positive]]
        left_out[image] = matched == LEFT_OUT
    positive = wanted != background
    losses = class_losses(raw.logits.float(), wanted, sigmoid=sigmoid, focal=classes == "focal")  # (N, A)
    counted = positive | hardest(losses, positive, left_out) if classes == "mined" else ~left_out
    count = positive.sum().clamp(min=1)
    return located / count, losses[counted].sum() / count


def class_losses(logits: Tensor, wanted: Tensor, *, sigmoid: bool, focal: bool) -> Tensor:
    """Cross-entropy, or focal loss, of each anchor.

    Args:
        logits: (N, A, K + 1) with the background last, or (N, A, K) for sigmoid.
        wanted: (N, A) class, or K for the background.

    Returns:
        (N, A); with sigmoid the sum over the classes.
    """
    if sigmoid:
        truth = F.one_hot(wanted, logits.shape[2] + 1)[:, :, :-1].to(logits.dtype)
        if focal:
            from torchvision.ops import sigmoid_focal_loss  # slow to import

            return sigmoid_focal_loss(logits, truth, alpha=BALANCE, gamma=FOCUS).sum(dim=2)
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=2)
    entropy = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").reshape(wanted.shape)
    if not focal:
        return entropy
    balance = torch.where(wanted == logits.shape[2] - 1, 1 - BALANCE, BALANCE)
    return balance * (1 - (-entropy).exp()) ** FOCUS * entropy


@torch.no_grad()
def hardest(losses: Tensor, positive: Tensor, left_out: Tensor) -> Tensor:
    """(N, A) each -> (N, A) bool: the background that is most wrong, NEGATIVES per positive of an image."""
    hardness = losses.masked_fill(positive | left_out, -1)  # no loss is negative
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    wanted = (NEGATIVES * positive.sum(dim=1, keepdim=True)).clamp(min=LEAST_NEGATIVES)
    return (rank < wanted) & (hardness >= 0)
