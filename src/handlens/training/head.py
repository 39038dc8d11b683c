"""A linear classifier on frozen features, fitted by L-BFGS: multinomial logistic regression, or one logistic regression
per class where an image may have several.

The weight decay is chosen by stratified cross-validation. All folds are fitted at once: they share one
matrix product with the features, which is what the time goes into, and start from the fit of the next
stronger decay. Features are turned into their principal axes, where the loss's curvature along each axis is known
up to a factor: scaled by it, L-BFGS needs a third of the steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from handlens.errors import InputError

# Per image, on standardised features. Our choice: from far too strong to far too weak, strongest first.
WEIGHT_DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
# Steps of L-BFGS. To compare decays, a rough fit from the neighbor's is enough; the last one converges.
CHOOSING_STEPS, FINAL_STEPS = 15, 60
# Of the loss along a class's logit, for scaling: 1/4 at most, less where answers are sure. Our choice, by flowers.
CURVATURE = 0.03
# Of the largest standard deviation: a feature that hardly varies is rounding noise, which division would enlarge until
# two runtimes no longer agree. Our choice.
LEAST_STD = 1e-3
# Multiply-adds of one product with the features, up to which one thread fits: on a busy machine several wait for each
# other longer than they compute.
SMALL = 1 << 30


@dataclass(frozen=True)
class Head:
    """A fitted linear layer and what cross-validation said of it.

    Attributes:
        weight, bias: (K, D) and (K,), on features as they are.
        weight_decay: the one chosen, per image on standardised features.
        out_of_fold: (N, K) probabilities of each image from folds that did not see it; None without folds.
        out_of_fold_logits: (N, K) the same before softmax or sigmoid.
        losses: mean out-of-fold cross-entropy by weight decay.
    """

    weight: Tensor
    bias: Tensor
    weight_decay: float
    out_of_fold: NDArray[np.float32] | None
    out_of_fold_logits: NDArray[np.float32] | None
    losses: dict[float, float]


def fit_head(
    features: NDArray[np.float32],
    targets: NDArray[np.float32],
    *,
    folds: NDArray[np.int64],
    copies: int = 1,
    several: bool = False,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Head:
    """
    Args:
        features: (N * copies, D), the copies of one image in consecutive rows, the unaugmented one first.
        targets: (N, K), 1 for the class of an image, or for each of its labels.
        folds: (N,) fold number of each image, from 0.
        several: an image may have several labels, or none.
        class_weights: (K,) or None; with `several` they weigh what speaks for a class.

    Returns:
        The head fitted on every image, with the weight decay that has the least out-of-fold loss.

    Raises:
        ValueError: the shapes disagree.
    """
    if len(features) != len(targets) * copies or len(folds) != len(targets):
        raise ValueError(
            f"{len(features)} rows of features, {len(targets)} labels, {copies} copies, {len(folds)} folds"
        )
    x = torch.from_numpy(features)
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = std.clamp(min=max(1e-6, LEAST_STD * float(std.max())))
    x = (x - mean) / std
    spread, axes = _principal_axes(x)
    x = x @ axes
    y = torch.from_numpy(targets)
    num_classes = y.shape[1]
    smooth = y * (1 - label_smoothing) + label_smoothing / (2 if several else num_classes)  # (N, K)
    weights = torch.ones(1) if class_weights is None else class_weights
    if several:
        problem = Problem(smooth.repeat_interleave(copies, dim=0), torch.ones(len(x)), weights)
    else:
        problem = Problem(
            smooth.repeat_interleave(copies, dim=0), (y * weights).sum(dim=1).repeat_interleave(copies), None
        )

    count = int(folds.max()) + 1
    fold_of = torch.from_numpy(folds)
    outside = torch.stack([fold_of != fold for fold in range(count)], dim=1).float()  # (N, folds)
    outside = outside.repeat_interleave(copies, dim=0)
    best: tuple[float, float, Tensor] | None = None  # (loss, weight decay, logits)
    losses: dict[float, float] = {}
    start = torch.zeros(count, num_classes, x.shape[1] + 1)
    if count > 1:
        for decay in WEIGHT_DECAYS:
            start = _fit(x, problem, outside, decay, start, spread=spread, steps=CHOOSING_STEPS)
            own = start[fold_of]  # (N, K, A + 1): each image's own fold's head
            logits = torch.einsum("nd,nkd->nk", x[::copies], own[:, :, :-1]) + own[:, :, -1]
            losses[decay] = float(_loss(logits, y, several=several))
            if best is None or losses[decay] < best[0]:
                best = losses[decay], decay, logits
            elif losses[decay] > 1.2 * best[0]:
                break  # weaker decays only overfit more
    decay = best[1] if best else 1e-2
    everything = torch.ones(len(x), 1)
    weight = torch.zeros(1, num_classes, x.shape[1] + 1)
    for stronger in [d for d in WEIGHT_DECAYS if d >= decay] or [decay]:
        steps = FINAL_STEPS if stronger == decay else CHOOSING_STEPS
        weight = _fit(x, problem, everything, stronger, weight, spread=spread, steps=steps)
    scaled = weight[0, :, :-1] @ axes.T / std  # back to features as they are
    bias = weight[0, :, -1] - scaled @ mean
    if best is None:
        return Head(scaled, bias, decay, None, None, losses)
    probabilities = best[2].sigmoid() if several else best[2].softmax(dim=1)
    return Head(scaled, bias, decay, probabilities.numpy(), best[2].numpy(), losses)


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean square along each axis (A,), and the axes as columns (D, A), of x (R, D).

    A = min(R, D): nothing varies along others, so that weight decay keeps their weights 0.
    """

    def decomposed(x: Tensor) -> tuple[Tensor, Tensor]:
        if len(x) >= x.shape[1]:
            spread, axes = torch.linalg.eigh(x.T @ x / len(x))
            return spread, axes
        _, singular, axes = torch.linalg.svd(x, full_matrices=False)
        return singular.square() / len(x), axes.T

    if not x.isfinite().all():
        raise InputError("the features of some images are nan or infinite; check the images and the weights.")
    try:
        return decomposed(x)
    except torch.linalg.LinAlgError:  # of a dozen images with many dead features, in float32
        pass
    x = x.double()
    try:
        spread, axes = decomposed(x)
    except torch.linalg.LinAlgError:  # of images that are all alike: a little of every axis, less than rounding had
        covariance = x.T @ x / len(x)
        covariance.diagonal().add_(1e-7 * covariance.diagonal().mean() + 1e-12)
        spread, axes = torch.linalg.eigh(covariance)
    return spread.float(), axes.float()


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """(K,) inversely proportional to the classes' counts, 1 on average over the images."""
    counts = np.bincount(labels, minlength=num_classes).clip(min=1)
    return torch.tensor(len(labels) / (num_classes * counts), dtype=torch.float32)


def balanced_tag_weights(targets: NDArray[np.float32]) -> Tensor:
    """(K,) images without a label by images with it, of targets (N, K): both sides weigh the same."""
    having = targets.sum(axis=0)
    ratio = (len(targets) - having) / having.clip(min=1)
    return torch.from_numpy(ratio.clip(min=1 / len(targets)).astype(np.float32))


@dataclass(frozen=True)
class Problem:
    """What is fitted.

    Attributes:
        targets: (R, K).
        weights: (R,) of the rows.
        for_weights: (K,) or (1,), of what speaks for a class; None is one class per image.
    """

    targets: Tensor
    weights: Tensor
    for_weights: Tensor | None

    def losses(self, logits: Tensor) -> Tensor:
        """(R, F, K) -> (R, F): cross-entropy, or the binary one summed over the classes, each its own problem."""
        targets = self.targets[:, None, :]
        if self.for_weights is None:
            return -(targets * logits.log_softmax(dim=2)).sum(dim=2)
        against = (1 - targets) * F.logsigmoid(-logits)
        return -(self.for_weights * targets * F.logsigmoid(logits) + against).sum(dim=2)


def _loss(logits: Tensor, targets: Tensor, *, several: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets) if several else F.cross_entropy(logits, targets)


def _fit(
    x: Tensor, problem: Problem, used: Tensor, decay: float, start: Tensor, *, spread: Tensor, steps: int
) -> Tensor:
    """Minimise the mean cross-entropy + decay / 2 * |W|^2 of every fold.

    Args:
        x: (R, A) along their principal axes; used: (R, F), 1 where a fold sees a row.
        start: (F, K, A + 1), the bias in the last column.
        spread: (A,) mean square of each column of x.

    Returns:
        (F, K, A + 1).
    """
    share = used * problem.weights[:, None]
    share = share / share.sum(dim=0)  # (R, F)
    scale = torch.cat([(CURVATURE * spread.clamp(min=0) + decay).rsqrt(), torch.ones(1)])  # (A + 1,)
    x = x * scale[:-1]
    parameters = (start / scale).requires_grad_()
    folds, classes, columns = start.shape
    optimizer = LBFGS(
        [parameters],
        max_iter=steps,
        history_size=10,
        tolerance_grad=1e-6,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        parameters.grad = None  # zero_grad is wrapped as well
        logits = x @ parameters[:, :, :-1].reshape(folds * classes, -1).T  # (R, F * K)
        logits = logits.view(-1, folds, classes) + parameters[:, :, -1]
        loss = (problem.losses(logits) * share).sum() + decay / 2 * (parameters * scale)[:, :, :-1].square().sum()
        loss.backward()
        return loss

    with _threads(1 if len(x) * columns * folds * classes <= SMALL else torch.get_num_threads()):
        optimizer.step(closure)
    return parameters.detach() * scale


class LBFGS(torch.optim.LBFGS):
    """PyTorch's, with `add_param_group` not wrapped for the compiler: the wrapper imports torch._dynamo, which takes as
    long as the fit of hundreds of images."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
