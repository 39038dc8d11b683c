"""The head against scikit-learn's logistic regression, on the same objective."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from handlens.training.head import WEIGHT_DECAYS, _principal_axes, balanced_tag_weights, fit_head

DIGITS = load_digits()
X = DIGITS.data[:600].astype(np.float32)
Y = DIGITS.target[:600].astype(np.int64)
ONE_HOT = np.eye(10, dtype=np.float32)[Y]
FOLDS = np.arange(600) % 5


def test_probabilities_are_scikit_learns():
    head = fit_head(X, ONE_HOT, folds=FOLDS)
    scaled = StandardScaler().fit_transform(X)
    # scikit-learn minimises C * sum of losses + |W|^2 / 2; we the mean + decay / 2 * |W|^2.
    theirs = LogisticRegression(C=1 / (head.weight_decay * len(Y)), max_iter=2000, tol=1e-8).fit(scaled, Y)
    logits = torch.from_numpy(X) @ head.weight.T + head.bias
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), theirs.predict_proba(scaled), atol=5e-3)


def test_probabilities_of_fewer_images_than_features_are_scikit_learns():
    few = slice(0, 50)  # of 64 features
    head = fit_head(X[few], ONE_HOT[few], folds=FOLDS[few])
    scaled = StandardScaler().fit_transform(X[few])
    theirs = LogisticRegression(C=1 / (head.weight_decay * 50), max_iter=2000, tol=1e-8).fit(scaled, Y[few])
    logits = torch.from_numpy(X[few]) @ head.weight.T + head.bias
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), theirs.predict_proba(scaled), atol=5e-3)


def several_labels() -> np.ndarray:
    """Of a digit: whether it is even, whether it is below five, whether it is a nine; a one has none but the second."""
    return np.stack([Y % 2 == 0, Y < 5, Y == 9], axis=1).astype(np.float32)


def test_several_labels_are_scikit_learns_logistic_regressions():
    targets = several_labels()
    head = fit_head(X, targets, folds=FOLDS, several=True)
    scaled = StandardScaler().fit_transform(X)
    probabilities = (torch.from_numpy(X) @ head.weight.T + head.bias).sigmoid().numpy()
    for place in range(3):
        theirs = LogisticRegression(C=1 / (head.weight_decay * len(Y)), max_iter=5000, tol=1e-8)
        expected = theirs.fit(scaled, targets[:, place]).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(probabilities[:, place], expected, atol=5e-3)
    assert head.out_of_fold is not None
    assert ((head.out_of_fold > 0.5) == (targets > 0.5)).mean(axis=0).min() > 0.85


def test_balanced_weights_find_more_of_a_rare_label():
    targets = several_labels()
    weights = balanced_tag_weights(targets)
    assert weights.tolist() == pytest.approx([(600 - n) / n for n in targets.sum(axis=0).tolist()], rel=1e-5)
    plain = fit_head(X, targets, folds=FOLDS, several=True)
    balanced = fit_head(X, targets, folds=FOLDS, several=True, class_weights=weights)
    assert (balanced.out_of_fold[:, 2] > 0.5).sum() > (plain.out_of_fold[:, 2] > 0.5).sum()
    assert balanced_tag_weights(np.array([[1, 0], [1, 0]], np.float32)).tolist() == [0.5, 2]  # nothing to divide by


def test_out_of_fold_predictions_did_not_see_their_image():
    """Labels that are pure chance: whoever saw them fits them, whoever did not stays at one in ten."""
    random_labels = np.random.default_rng(0).permutation(Y)
    head = fit_head(X, np.eye(10, dtype=np.float32)[random_labels], folds=FOLDS)
    assert head.out_of_fold is not None
    assert (head.out_of_fold.argmax(axis=1) == random_labels).mean() < 0.2


def test_the_weight_decay_is_the_one_with_the_least_out_of_fold_loss():
    head = fit_head(X, ONE_HOT, folds=FOLDS)
    assert head.weight_decay == min(head.losses, key=lambda decay: head.losses[decay])
    assert set(head.losses) <= set(WEIGHT_DECAYS)
    assert len(head.losses) > 2
    assert head.out_of_fold is not None
    assert (head.out_of_fold.argmax(axis=1) == Y).mean() > 0.9


def test_a_constant_feature_and_fewer_images_than_features_do_no_harm():
    wide = np.concatenate([X[:40], np.ones((40, 5), np.float32)], axis=1)
    head = fit_head(wide, ONE_HOT[:40], folds=FOLDS[:40])
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()


def test_augmented_copies_count_as_their_image():
    noisy = X + np.random.default_rng(0).normal(0, 1, X.shape).astype(np.float32)
    both = np.stack([X, noisy], axis=1).reshape(len(X) * 2, -1)
    head = fit_head(both, ONE_HOT, folds=FOLDS, copies=2)
    assert head.out_of_fold is not None
    assert head.out_of_fold.shape == (600, 10)
    with pytest.raises(ValueError, match="copies"):
        fit_head(X, ONE_HOT, folds=FOLDS, copies=2)


def test_fitting_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        fit_head(X[:50], ONE_HOT[:50], folds=FOLDS[:50])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_head_is_fitted_without_torchs_compiler():
    """Its import takes as long as the fit of hundreds of images."""
    script = """
import sys, numpy as np
from handlens.training.head import fit_head
fit_head(np.eye(6, dtype=np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 3], folds=np.arange(6) % 2)
assert "torch" in sys.modules and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("rows", "decomposition"), [(60, "eigh"), (12, "svd")])
def test_principal_axes_are_found_in_float64_where_float32_does_not_converge(rows, decomposition, monkeypatch):
    """As of a dozen small images through MobileNetV2, half of whose features are 0 (tests/flow/test_own_parts.py)."""
    found = getattr(torch.linalg, decomposition)

    def fails_in_float32(matrix, **options):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("failed to converge")
        return found(matrix, **options)

    x = torch.randn(rows, 40, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch.linalg, decomposition, fails_in_float32)
    spread, axes = _principal_axes(x)
    assert spread.dtype == axes.dtype == torch.float32
    assert axes.shape == (40, min(rows, 40))
    torch.testing.assert_close((axes * spread) @ axes.T, x.T @ x / len(x), rtol=1e-4, atol=1e-5)
