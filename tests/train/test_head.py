"""The head against scikit-learn's logistic regression, on the same objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from handlens.train.head import WEIGHT_DECAYS, fit_head

DIGITS = load_digits()
X = DIGITS.data[:600].astype(np.float32)
Y = DIGITS.target[:600].astype(np.int64)
FOLDS = np.arange(600) % 5


def test_probabilities_are_scikit_learns():
    head = fit_head(X, Y, num_classes=10, folds=FOLDS)
    scaled = StandardScaler().fit_transform(X)
    # scikit-learn minimises C * sum of losses + |W|^2 / 2; we the mean + decay / 2 * |W|^2.
    theirs = LogisticRegression(C=1 / (head.weight_decay * len(Y)), max_iter=2000, tol=1e-8).fit(scaled, Y)
    logits = torch.from_numpy(X) @ head.weight.T + head.bias
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), theirs.predict_proba(scaled), atol=5e-3)


def test_out_of_fold_predictions_did_not_see_their_picture():
    """Labels that are pure chance: whoever saw them fits them, whoever did not stays at one in ten."""
    random_labels = np.random.default_rng(0).permutation(Y)
    head = fit_head(X, random_labels, num_classes=10, folds=FOLDS)
    assert head.out_of_fold is not None
    assert (head.out_of_fold.argmax(axis=1) == random_labels).mean() < 0.2


def test_the_weight_decay_is_the_one_with_the_least_out_of_fold_loss():
    head = fit_head(X, Y, num_classes=10, folds=FOLDS)
    assert head.weight_decay == min(head.losses, key=lambda decay: head.losses[decay])
    assert set(head.losses) <= set(WEIGHT_DECAYS)
    assert len(head.losses) > 2
    assert head.out_of_fold is not None
    assert (head.out_of_fold.argmax(axis=1) == Y).mean() > 0.9


def test_a_constant_feature_and_fewer_pictures_than_features_do_no_harm():
    wide = np.concatenate([X[:40], np.ones((40, 5), np.float32)], axis=1)
    head = fit_head(wide, Y[:40], num_classes=10, folds=FOLDS[:40])
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()


def test_views_count_as_their_picture():
    noisy = X + np.random.default_rng(0).normal(0, 1, X.shape).astype(np.float32)
    both = np.stack([X, noisy], axis=1).reshape(len(X) * 2, -1)
    head = fit_head(both, Y, num_classes=10, folds=FOLDS, views=2)
    assert head.out_of_fold is not None
    assert head.out_of_fold.shape == (600, 10)
    with pytest.raises(ValueError, match="views"):
        fit_head(X, Y, num_classes=10, folds=FOLDS, views=2)
