"""Several labels per image: the numbers against scikit-learn and torchmetrics, and the thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torchmetrics.classification import MultilabelAveragePrecision

from handlens.evaluation.tags import average_precision, best_thresholds, mean_average_precision, tag_metrics

NAMES = ("a", "b", "c", "d")


def answers(count: int = 200, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know something of the truth, of classes from rare to frequent."""
    rng = np.random.default_rng(0)
    truth = rng.random((count, 4)) < np.array([0.03, 0.2, 0.5, 0.9])
    probabilities = (0.6 * rng.random((count, 4)) + 0.4 * truth * rng.random((count, 4))).astype(np.float32)
    return np.round(probabilities, 1) if ties else probabilities, truth


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns_and_torchmetrics(ties):
    probabilities, truth = answers(ties=ties)
    for place in range(4):
        expected = sk.average_precision_score(truth[:, place], probabilities[:, place])
        assert average_precision(probabilities[:, place], truth[:, place]) == pytest.approx(expected, abs=1e-12)
    theirs = MultilabelAveragePrecision(num_labels=4)(torch.tensor(probabilities), torch.tensor(truth).long())
    assert mean_average_precision(probabilities, truth) == pytest.approx(float(theirs), abs=1e-6)


def test_the_numbers_at_the_thresholds_are_scikit_learns():
    probabilities, truth = answers()
    thresholds = [0.5, 0.4, 0.3, 0.2]
    metrics = tag_metrics(probabilities, truth, NAMES, thresholds)
    answered = probabilities >= np.array(thresholds)
    for average, keys in (("micro", ("precision", "recall", "f1")), ("macro", (None, None, "macro_f1"))):
        theirs = sk.precision_recall_fscore_support(truth, answered, average=average, zero_division=np.nan)
        for key, value in zip(keys, theirs[:3], strict=True):
            assert key is None or metrics[key] == pytest.approx(value)
    per_class = sk.precision_recall_fscore_support(truth, answered, average=None, zero_division=np.nan)
    for row, *values in zip(metrics["per_class"], *per_class, strict=True):
        assert [row["precision"], row["recall"], row["f1"], row["count"]] == pytest.approx(values)
    assert metrics["exact"] == pytest.approx(sk.accuracy_score(truth, answered))
    assert metrics["loss"] == pytest.approx(np.mean([sk.log_loss(truth[:, k], probabilities[:, k]) for k in range(4)]))
    assert metrics["chance"] == pytest.approx(truth.mean())
    sets, counts = np.unique(truth, axis=0, return_counts=True)
    assert metrics["exact_baseline"]["share"] == counts.max() / len(truth)
    assert metrics["exact_baseline"]["labels"] == [NAMES[k] for k in np.flatnonzero(sets[counts.argmax()])]


def test_the_curve_is_the_best_precision_at_a_recall_or_beyond():
    probabilities, truth = answers()
    row = tag_metrics(probabilities, truth, NAMES, [0.5] * 4)["per_class"][1]
    precision, recall, _ = sk.precision_recall_curve(truth[:, 1], probabilities[:, 1])
    for place in (0, 37, 50, 100):
        assert row["curve"][place] == pytest.approx(precision[recall >= place / 100 - 1e-12].max(), abs=1e-4)


def test_what_cannot_be_divided_is_none():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.3]], np.float32)
    truth = np.array([[True, False], [False, False]])
    metrics = tag_metrics(probabilities, truth, ("there", "never there"), [0.5, 0.5])
    there, never = metrics["per_class"]
    assert (there["ap"], there["precision"], there["recall"]) == (1, 1, 1)
    assert [never[key] for key in ("ap", "precision", "recall", "f1", "curve")] == [None] * 5
    assert (metrics["map"], metrics["macro_f1"], metrics["exact"]) == (1, 1, 1)
    nothing = tag_metrics(probabilities, np.zeros((2, 2), bool), ("a", "b"), [0.5, 0.5])
    assert nothing["map"] is None
    assert mean_average_precision(probabilities, np.zeros((2, 2), bool)) == 0


def test_thresholds_have_the_best_f1_and_lie_between_two_answers():
    probabilities, truth = answers()
    chosen = best_thresholds(probabilities, truth)
    for place, threshold in enumerate(chosen):
        scores = probabilities[:, place]
        f1 = {t: sk.f1_score(truth[:, place], scores >= t, zero_division=0) for t in [*scores.tolist(), threshold]}
        assert f1[threshold] == max(f1.values())
        assert np.abs(scores - threshold).min() > 0


def test_a_label_that_none_or_all_have_keeps_the_usual_threshold():
    probabilities = np.array([[0.9, 0.1, 0.8], [0.2, 0.3, 0.1]], np.float32)
    truth = np.array([[True, False, True], [True, False, False]])
    assert best_thresholds(probabilities, truth) == [0.5, 0.5, pytest.approx(0.45)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t: (p[:, :3], t), r"both be \(N, K\)"),
        (lambda p, t: (p[:0], t[:0]), "neither 0"),
        (lambda p, t: (np.where(p < 0.3, np.nan, p), t), "in row"),
        (lambda p, t: (p + 1, t), r"probabilities must be in \[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        tag_metrics(*change(*answers()), NAMES, [0.5] * 4)


def test_names_and_thresholds_are_one_per_class():
    with pytest.raises(ValueError, match="4 names and thresholds are needed, got 4 and 3"):
        tag_metrics(*answers(), NAMES, [0.5] * 3)
