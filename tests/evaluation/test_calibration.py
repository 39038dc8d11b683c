"""The temperature against other optimizers, and the calibration error against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import multiclass_calibration_error

from handlens.evaluation.calibration import TEMPERATURES, calibration, fit_temperature, tempered


def predictions(count: int, *, classes: int = 5, factor: float = 1.0, seed: int = 0):
    """(probabilities, labels): labels drawn from softmax(logits), probabilities from `factor` times the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 2
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (likely.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    raised = np.exp(factor * logits)
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found(factor):
    probabilities, labels = predictions(20_000, factor=factor)
    found = fit_temperature(probabilities, labels)
    assert found == pytest.approx(factor, rel=0.05)
    best = minimize_scalar(
        lambda log: calibration(tempered(probabilities, np.exp(log)), labels)["nll"], bounds=(-3, 3), method="bounded"
    )
    assert found == pytest.approx(np.exp(best.x), rel=2e-3)
    assert calibration(tempered(probabilities, found), labels)["ece"] < 0.015


def test_of_few_images_that_are_all_right_none_is_certain():
    probabilities, _ = predictions(8, factor=2.0)
    labels = probabilities.argmax(axis=1)
    found = fit_temperature(probabilities, labels)
    assert TEMPERATURES[0] < found < 1
    assert tempered(probabilities, found).max() < 1


def test_temperatures_multiply_and_change_no_prediction():
    probabilities, _ = predictions(200)
    once = tempered(probabilities, 1.7)
    np.testing.assert_allclose(tempered(once, 1 / 1.7), probabilities, atol=1e-6)
    np.testing.assert_array_equal(once.argmax(axis=1), probabilities.argmax(axis=1))
    certain = np.array([[1, 0, 0]], dtype=np.float32)  # float32's softmax hands that out
    assert np.isfinite(tempered(certain, 3.0)).all()


def test_calibration_error_is_that_of_torchmetrics():
    probabilities, labels = predictions(700, factor=2.0)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=5, n_bins=15, norm="l1"
    )
    assert calibration(probabilities, labels)["ece"] == pytest.approx(float(theirs), abs=1e-6)
