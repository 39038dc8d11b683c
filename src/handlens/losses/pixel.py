"""What a segmenter is trained with: one number from logits and the true class of every pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from handlens.palette import IGNORE


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the pixels that count, natural logarithm.

    Args:
        logits: (N, K, H, W).
        targets: (N, H, W) int64, class indices or IGNORE.
        class_weights: (K,); the mean is then weighted by the weight of each pixel's true class.
        label_smoothing: share of each target that is spread over all classes.

    Returns:
        a scalar in float32; 0, with a gradient of 0, where every pixel is ignored.

    Raises:
        ValueError: shapes disagree, or a target is neither a class nor IGNORE.
    """
    _check(logits, targets, class_weights)
    by_pixel = logits.float().permute(0, 2, 3, 1).reshape(-1, logits.shape[1])  # half as fast along another dimension
    total = F.cross_entropy(
        by_pixel,
        targets.flatten(),
        weight=class_weights,
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total / _weight_of_pixels(targets, class_weights)


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy weighed down where the answer is right already: by (1 - probability of the truth) ** gamma.

    Args:
        gamma: 0 is cross-entropy; at 2 a pixel that is 90 % right counts a hundredth.

    Otherwise as `cross_entropy`.

    Source: Lin et al. 2017, arXiv:1708.02002, section 3, over a softmax instead of sigmoids.
    """
    _check(logits, targets, class_weights)
    if gamma < 0:
        raise ValueError(f"gamma must not be negative, got {gamma}")
    entropy = F.cross_entropy(logits.float(), targets, ignore_index=IGNORE, reduction="none")  # (N, H, W)
    wrong = (-torch.expm1(-entropy)).clamp(min=1e-12)  # the power of 0 has no gradient below gamma 1
    losses = wrong**gamma * entropy
    if class_weights is not None:
        losses = losses * class_weights[targets.where(targets != IGNORE, 0)]  # an ignored pixel has no loss to weigh
    return losses.sum() / _weight_of_pixels(targets, class_weights)


def dice(logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """1 minus the Dice coefficient of each class over the whole batch, mean over the classes that are there.

    2 sum(p t) / (sum(p) + sum(t)) with p the softmax and t 0 or 1: small classes count as much as large ones. Pixels
    that are ignored are in no sum; classes without a pixel in this batch are in no mean.

    Otherwise as `cross_entropy`; `class_weights` weigh the mean over the classes.

    Source: Milletari et al. 2016, arXiv:1606.04797, section 3, without their squares in the denominator.
    """
    _check(logits, targets, class_weights)
    classes = logits.shape[1]
    known = (targets != IGNORE).flatten()
    truth = targets.flatten().where(known, 0)  # (P,): an ignored pixel counts nothing, as whatever class
    probabilities = logits.float().permute(0, 2, 3, 1).reshape(-1, classes).softmax(dim=1) * known[:, None]  # (P, K)
    of_truth = probabilities.gather(1, truth[:, None])[:, 0]
    overlap = torch.zeros(classes, device=logits.device).index_add(0, truth, of_truth)
    pixels = torch.zeros(classes, device=logits.device).index_add(0, truth, known.float())
    coefficient = 2 * overlap / (probabilities.sum(dim=0) + pixels).clamp(min=1e-7)
    weights = (pixels > 0).float() if class_weights is None else class_weights * (pixels > 0)
    total = weights.sum()
    return ((1 - coefficient) * weights).sum() / total.where(total > 0, 1)


def _weight_of_pixels(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """Scalar: what the sum over the pixels is divided by; 1 where there is nothing."""
    known = targets[targets != IGNORE]
    weight = torch.tensor(float(known.numel())) if class_weights is None else class_weights[known].sum()
    return weight.where(weight > 0, 1)


def _check(logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> None:
    if logits.ndim != 4 or targets.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"logits and targets must be (N, K, H, W) and (N, H, W), got {tuple(logits.shape)} "
            f"and {tuple(targets.shape)}"
        )
    classes = logits.shape[1]
    if class_weights is not None and class_weights.shape != (classes,):
        raise ValueError(f"class_weights must have shape ({classes},), got {tuple(class_weights.shape)}")
    outside = targets[((targets < 0) | (targets >= classes)) & (targets != IGNORE)]
    if outside.numel():
        raise ValueError(f"targets must be in [0, {classes}) or {IGNORE}, got {int(outside[0])}")
