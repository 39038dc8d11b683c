"""Scores of unknown images against what others compute, and what a p-value promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from handlens.evaluation import unknown
from handlens.evaluation.unknown import Gaussians
from handlens.flow.choose_recognition import chosen_score

RNG = np.random.default_rng(0)
FEATURES = RNG.random((60, 8), dtype=np.float32)
LABELS = np.arange(60) % 3
LOGITS = RNG.normal(size=(60, 5)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 4])
def test_neighbor_distances_are_scikit_learns(k):
    new = RNG.random((7, 8), dtype=np.float32)
    bank = unknown.unit(FEATURES)
    theirs, _ = NearestNeighbors(n_neighbors=k).fit(bank).kneighbors(unknown.unit(new))
    np.testing.assert_allclose(unknown.neighbor_distance(new, bank, k=k), theirs[:, -1], atol=1e-3)
    theirs, _ = NearestNeighbors(n_neighbors=k + 1).fit(bank).kneighbors(bank)
    np.testing.assert_allclose(
        unknown.neighbor_distance(FEATURES, bank, folds=(np.arange(60), np.arange(60)), k=k), theirs[:, -1], atol=1e-3
    )


def test_mahalanobis_distances_are_scikit_learns(monkeypatch):
    monkeypatch.setattr(unknown, "SHRINKAGE", 0.0)
    ours = Gaussians.of(FEATURES, LABELS).distance(FEATURES)
    means = np.stack([FEATURES[one == LABELS].mean(axis=0) for one in range(3)])
    fitted = EmpiricalCovariance(assume_centered=True).fit(FEATURES - means[LABELS])
    theirs = np.sqrt(np.min([fitted.mahalanobis(FEATURES - mean) for mean in means], axis=0))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_scores_of_logits():
    logits = torch.from_numpy(LOGITS).double()
    np.testing.assert_allclose(unknown.energy(LOGITS), -logits.logsumexp(dim=1).numpy())
    p = logits.softmax(dim=1)
    np.testing.assert_allclose(unknown.max_probability(LOGITS), 1 - p.max(dim=1).values.numpy())
    np.testing.assert_allclose(unknown.generalized_entropy(LOGITS), ((p * (1 - p)) ** 0.1).sum(dim=1).numpy())


def test_auroc_is_scikit_learns():
    known, new = np.round(RNG.normal(size=90), 1), np.round(RNG.normal(size=40) + 0.7, 1)  # with ties
    theirs = roc_auc_score(np.repeat([0, 1], [90, 40]), np.concatenate([known, new]))
    assert unknown.auroc(known, new) == pytest.approx(theirs)


def test_no_more_known_images_are_rejected_than_was_asked():
    rejected = [
        float((unknown.p_values(RNG.normal(size=200), np.sort(RNG.normal(size=99))) <= 0.05).mean()) for _ in range(300)
    ]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.005)
    assert unknown.p_values(np.array([9.0]), np.sort(RNG.normal(size=99)))[0] == pytest.approx(0.01)


def test_another_score_has_to_be_better_for_every_class():
    usual = {unknown.KNN_ENERGY: [0.8, 0.7, 0.9]}
    assert chosen_score(usual | {unknown.GEN: [0.9, 0.8, 0.89]}) == unknown.KNN_ENERGY
    assert chosen_score(usual | {unknown.GEN: [0.81, 0.71, 0.91], unknown.KNN: [0.9, 0.8, 0.95]}) == unknown.KNN
    assert chosen_score({unknown.KNN_ENERGY: [0.5, 0.5], unknown.GEN: [0.9, 0.9]}) == unknown.KNN_ENERGY
    assert chosen_score({}) == unknown.KNN_ENERGY


def test_quantiles_say_what_all_scores_say():
    known, new = np.sort(RNG.normal(size=5000)), RNG.normal(size=2000) + 0.5
    ours = unknown.p_by_quantiles(new, unknown.quantiles_of(known), 5000)
    np.testing.assert_allclose(ours, unknown.p_values(new, known), atol=0.011)
    rejected = [
        (
            unknown.p_by_quantiles(RNG.normal(size=5000), unknown.quantiles_of(RNG.normal(size=5000)), 5000) <= 0.05
        ).mean()
        for _ in range(50)
    ]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.003)


def test_few_known_images_cannot_tell_much():
    quantiles = unknown.quantiles_of(RNG.normal(size=20))
    assert unknown.p_by_quantiles(np.array([99.0]), quantiles, 20)[0] == pytest.approx(1 / 21)
