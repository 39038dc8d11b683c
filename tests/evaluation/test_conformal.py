"""Prediction sets: MAPIE's with the same draws, and the coverage that is promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore, RAPSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from handlens.evaluation.conformal import (
    aps_scores,
    fewest,
    lac_scores,
    measured_sets,
    raps_scores,
    sets,
    threshold,
)

CLASSES = 7


class Given(ClassifierMixin, BaseEstimator):
    """A model whose images are its probabilities."""

    classes_ = np.arange(CLASSES)

    def fit(self, X, y):  # noqa: N803 - scikit-learn's names
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X):  # noqa: N803
        return X.argmax(axis=1)

    def predict_proba(self, X):  # noqa: N803
        return X


def images(count, seed):
    """Probabilities that are a little too sure, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, CLASSES)) * 2
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (truth.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    sure = np.exp(1.4 * logits)
    return sure / sure.sum(axis=1, keepdims=True), labels


def of_labels(scores, labels):
    return scores[np.arange(len(labels)), labels]


def mapie_sets(score, seed, *, coverage, last):
    calibration, labels = images(500, seed)
    model = SplitConformalClassifier(
        Given(), confidence_level=coverage, conformity_score=score, prefit=True, random_state=seed
    )
    model.conformalize(calibration, labels)
    return model.predict_set(images(400, seed + 100)[0], conformity_score_params=last)[1][:, :, 0], model


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
def test_lac_is_mapies(seed, coverage):
    theirs, _ = mapie_sets(LACConformityScore(), seed, coverage=coverage, last={})
    limit = threshold(of_labels(lac_scores(images(500, seed)[0]), images(500, seed)[1]), coverage)
    ours = sets(lac_scores(images(400, seed + 100)[0]), limit)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
def test_aps_is_mapies_with_the_same_draws(seed, coverage):
    theirs, _ = mapie_sets(APSConformityScore(), seed, coverage=coverage, last={"include_last_label": "randomized"})

    def draws(count):
        return np.random.RandomState(seed).uniform(size=count)

    calibration, labels = images(500, seed)
    limit = threshold(of_labels(aps_scores(calibration, draws=draws(500)), labels), coverage)
    ours = sets(aps_scores(images(400, seed + 100)[0], draws=draws(400)), limit)
    assert 0.5 < ours.sum(axis=1).mean() < CLASSES - 1
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("penalty", "free"), [(0.01, 5), (0.2, 1), (0.5, 0)])
def test_raps_is_the_authors(penalty, free):
    """Written after the authors' code (github.com/aangelopoulos/conformal_classification, `get_tau`)."""
    probabilities, _ = images(50, 4)
    draws = np.random.default_rng(4).random(50)
    ours = raps_scores(probabilities, penalty=penalty, free=free, draws=draws)
    for row, u, found in zip(probabilities, draws, ours, strict=True):
        ordered = np.sort(row)[::-1]
        penalties = np.zeros(CLASSES)
        penalties[free:] += penalty
        for label in range(CLASSES):
            place = int(np.flatnonzero(ordered == row[label])[0])
            before = ordered[:place].sum() + penalties[:place].sum()
            # The draw takes a share of the class's own probability alone; of its penalty nothing, as in algorithm 2.
            assert found[label] == pytest.approx(before + (1 - u) * ordered[place] + penalties[place])


def test_the_threshold_of_raps_is_mapies():
    _, model = mapie_sets(
        RAPSConformityScore(size_raps=0.3), 5, coverage=0.9, last={"include_last_label": "randomized"}
    )
    inner = model._mapie_classifier
    score = inner.conformity_score_function_
    penalty, free = float(np.ravel(score.lambda_star)[0]), int(np.ravel(score.k_star)[0])
    plain = np.ravel(inner.conformity_scores_)  # APS of the images that are left, with their draws
    reached = plain + penalty * np.maximum(np.ravel(score.cutoff) - free, 0)
    assert threshold(reached, 0.9) == pytest.approx(float(np.ravel(score.quantiles_)[0]))


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_truth_as_often_as_promised(coverage):
    """On average over calibrations the coverage lies between the level and 1 / (n + 1) more, with draws or LAC."""
    found = {"lac": [], "aps": [], "raps": [], "without draws": []}
    rng = np.random.default_rng(0)
    for seed in range(60):
        (calibration, known), (new, labels) = images(199, seed), images(600, 1000 + seed)
        u, v = rng.random(199), rng.random(600)
        for name, ours, theirs in (
            ("lac", lac_scores(calibration), lac_scores(new)),
            ("aps", aps_scores(calibration, draws=u), aps_scores(new, draws=v)),
            ("raps", raps_scores(calibration, draws=u, free=1), raps_scores(new, draws=v, free=1)),
            ("without draws", aps_scores(calibration), aps_scores(new)),
        ):
            chosen = sets(theirs, threshold(of_labels(ours, known), coverage))
            found[name].append(measured_sets(chosen, labels)["coverage"])
    for values in found.values():
        off = 3 * np.std(values) / math.sqrt(len(values))  # three standard errors of the mean
        assert coverage - off <= np.mean(values) <= coverage + 1 / 200 + off


def test_the_threshold_counts_exactly():
    scores = np.arange(1, 10) / 10  # 9 of them: 10 * 0.9 is the 9th
    assert threshold(scores, 0.9) == 0.9 and threshold(scores, 0.5) == 0.5
    assert threshold(scores, 0.95) == math.inf
    assert [fewest(level) for level in (0.2, 0.9, 0.95, 0.99, 0.9999)] == [1, 9, 19, 99, 9999]
    assert threshold(scores[:-1], 0.9) == math.inf  # one fewer


def test_sets_are_measured():
    chosen = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=bool)
    found = measured_sets(chosen, np.array([1, 0, 2, 2]))
    assert (found["coverage"], found["mean_size"], found["count"]) == (0.5, 1.25, 4)
    assert found["sizes"] == {"0": 1, "1": 1, "2": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: threshold([], 0.9),
        lambda: threshold([math.nan], 0.9),
        lambda: threshold([0.5], 1.0),
        lambda: lac_scores([0.5, 0.5]),
        lambda: aps_scores([[0.5, math.nan]]),
        lambda: aps_scores([[0.5, 0.5]], draws=[0.1, 0.2]),
        lambda: raps_scores([[0.5, 0.5]], penalty=-1),
        lambda: measured_sets(np.ones((2, 2), bool), np.array([1])),
    ],
)
def test_what_has_no_sets_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must|disagree"):
        wrong()
