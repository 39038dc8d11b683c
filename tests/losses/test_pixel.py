"""Losses per pixel against torchvision's focal loss, PyTorch's cross-entropy and sums written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from handlens.losses.pixel import cross_entropy, dice, focal
from handlens.palette import IGNORE

LOSSES = pytest.mark.parametrize("loss", [cross_entropy, focal, dice])


def batch(classes: int = 4, *, ignored: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = 2 * torch.randn(3, classes, 9, 11)
    targets = torch.randint(0, classes, (3, 9, 11))
    targets[torch.rand(3, 9, 11) < ignored] = IGNORE
    return logits.requires_grad_(), targets


def rows(logits: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Softmax probabilities (P, K) and classes (P,) of the pixels that count, in float64."""
    flat = logits.detach().double().permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).numpy()
    truth = targets.numpy().ravel()
    exponents = np.exp(flat - flat.max(axis=1, keepdims=True))
    known = truth != IGNORE
    return (exponents / exponents.sum(axis=1, keepdims=True))[known], truth[known]


WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 4.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_pytorchs(weights, smoothing):
    logits, targets = batch()
    made = cross_entropy(logits, targets, class_weights=weights, label_smoothing=smoothing)
    expected = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_what_the_formula_says(weights):
    logits, targets = batch()
    probabilities, truth = rows(logits, targets)
    weight = np.ones(len(truth)) if weights is None else weights.numpy()[truth]
    expected = -(weight * np.log(probabilities[np.arange(len(truth)), truth])).sum() / weight.sum()
    assert float(cross_entropy(logits.detach(), targets, class_weights=weights)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_torchvisions_for_two_classes(gamma):
    """A softmax over (0, x) is a sigmoid of x."""
    logits, targets = batch(2, ignored=0.0)
    margin = logits[:, 1] - logits[:, 0]
    expected = sigmoid_focal_loss(margin, targets.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal(logits, targets, gamma=gamma), expected)
    weighted = sigmoid_focal_loss(margin, targets.float(), alpha=0.25, gamma=gamma, reduction="sum")
    weights = torch.tensor([0.75, 0.25])
    made = focal(logits, targets, gamma=gamma, class_weights=weights)
    torch.testing.assert_close(made * weights[targets].sum(), weighted)


def test_focal_at_gamma_0_is_cross_entropy():
    logits, targets = batch()
    for weights in (None, WEIGHTS):
        expected = cross_entropy(logits, targets, class_weights=weights)
        torch.testing.assert_close(focal(logits, targets, gamma=0, class_weights=weights), expected)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_is_what_the_formula_says(weights, absent):
    logits, targets = batch()
    if absent:
        targets[targets == 2] = 1
    probabilities, truth = rows(logits, targets)
    coefficients, mass = [], []
    for label in np.unique(truth):
        there = truth == label
        coefficients.append(2 * probabilities[there, label].sum() / (probabilities[:, label].sum() + there.sum()))
        mass.append(1 if weights is None else float(weights[label]))
    assert len(coefficients) == 4 - absent
    expected = 1 - np.average(coefficients, weights=mass)
    assert float(dice(logits.detach(), targets, class_weights=weights)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("loss", "worst"), [(cross_entropy, None), (focal, None), (dice, 1.0)])
def test_a_perfect_answer_costs_nothing_and_a_wrong_one_much(loss, worst):
    _, targets = batch(ignored=0.0)
    right = 60 * F.one_hot(targets, 4).movedim(-1, 1).float()
    assert float(loss(right, targets)) == pytest.approx(0, abs=1e-6)
    wrong = float(loss(right.roll(1, dims=1), targets))
    assert wrong == pytest.approx(worst, abs=1e-6) if worst else wrong > 50


@LOSSES
def test_ignored_pixels_change_nothing(loss):
    logits, targets = batch()
    expected = loss(logits, targets)
    with torch.no_grad():
        other = torch.where((targets == IGNORE)[:, None], 10 * torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(other, targets), expected)
    expected.backward()
    gradient = logits.grad.movedim(1, -1)
    assert (gradient[targets == IGNORE] == 0).all()
    assert (gradient[targets != IGNORE] != 0).any(dim=1).all()


@LOSSES
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_batch_without_a_pixel_that_counts_costs_0_and_has_a_gradient(loss, weights):
    logits, targets = batch()
    made = loss(logits, torch.full_like(targets, IGNORE), class_weights=weights)
    made.backward()
    assert float(made.detach()) == 0
    assert (logits.grad == 0).all()


@LOSSES
def test_huge_logits_give_no_nan(loss):
    logits, targets = batch()
    made = loss((1e4 * logits).clamp(-1e4, 1e4), targets)
    made.backward()
    assert made.isfinite()
    assert logits.grad.isfinite().all()


@LOSSES
def test_bf16_logits_are_summed_in_float32(loss):
    logits, targets = batch()
    made = loss(logits.bfloat16(), targets)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, loss(logits.bfloat16().float(), targets))


@LOSSES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits, targets: (logits, targets[:, :5]), r"got \(3, 4, 9, 11\) and \(3, 5, 11\)"),
        (lambda logits, targets: (logits[:, :, 0], targets), r"\(N, K, H, W\)"),
        (lambda logits, targets: (logits, targets.where(targets != 3, 4)), r"in \[0, 4\) or 255, got 4"),
        (lambda logits, targets: (logits, targets.where(targets != 3, -1)), "got -1"),
    ],
)
def test_what_does_not_fit_is_refused(loss, change, message):
    with pytest.raises(ValueError, match=message):
        loss(*change(*batch()))


def test_weights_of_another_number_of_classes_and_a_negative_gamma_are_refused():
    logits, targets = batch()
    for loss in (cross_entropy, focal, dice):
        with pytest.raises(ValueError, match=r"shape \(4,\), got \(3,\)"):
            loss(logits, targets, class_weights=torch.ones(3))
    with pytest.raises(ValueError, match="gamma must not be negative, got -1"):
        focal(logits, targets, gamma=-1)
