"""Metrics against scikit-learn, calibration against torchmetrics, intervals against published values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from handlens.evaluation.errors import ranked
from handlens.evaluation.metrics import classification_metrics, wilson_interval


def answers(count: int, classes: int, *, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) of a classifier that is often, not always right, and labels (N,)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    logits = generator.normal(size=(count, classes))
    logits[np.arange(count), labels] += skill
    exponents = np.exp(logits)
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32), labels


def names(classes: int) -> list[str]:
    return [f"class {index}" for index in range(classes)]


@pytest.mark.parametrize(("count", "classes"), [(400, 2), (814, 5), (600, 12), (60, 100)])
def test_metrics_are_scikit_learns(count, classes):
    probabilities, labels = answers(count, classes)
    ours = classification_metrics(probabilities, labels, names(classes))
    predicted = probabilities.argmax(axis=1)
    everything = range(classes)
    assert 0.2 < ours["top1"] < 0.99  # else little could fail below
    assert ours["top1"] == sk.accuracy_score(labels, predicted)
    assert ours["correct"] == sk.accuracy_score(labels, predicted, normalize=False)
    assert ours["confusion"] == sk.confusion_matrix(labels, predicted, labels=everything).tolist()
    assert ours["loss"] == pytest.approx(sk.log_loss(labels, probabilities, labels=everything), rel=1e-6)
    present = np.unique(labels)
    recalls = sk.recall_score(labels, predicted, labels=present, average=None, zero_division=np.nan)
    assert ours["balanced_accuracy"] == pytest.approx(recalls.mean())
    theirs = sk.precision_recall_fscore_support(labels, predicted, labels=everything, zero_division=np.nan)
    for index, row in enumerate(ours["per_class"]):
        for value, expected in zip((row["precision"], row["recall"], row["f1"]), theirs[:3], strict=True):
            assert (value is None) == np.isnan(expected[index])
            assert value is None or value == pytest.approx(expected[index])
        assert row["count"] == theirs[3][index]
    f1 = sk.f1_score(labels, predicted, labels=everything, average="macro", zero_division=np.nan)
    assert ours["macro_f1"] == pytest.approx(f1)
    if classes > 5:
        assert ours["top5"] == sk.top_k_accuracy_score(labels, probabilities, k=5, labels=everything)
        assert ours["top5"] > ours["top1"]
    else:
        assert ours["top5"] is ours["top5_interval"] is ours["top5_baseline"] is None


def test_balanced_accuracy_is_scikit_learns():
    probabilities, labels = answers(500, 4, skill=1.0)
    keep = (labels != 0) | (np.arange(500) % 5 == 0)  # one class five times rarer
    probabilities, labels = probabilities[keep], labels[keep]
    expected = sk.balanced_accuracy_score(labels, probabilities.argmax(axis=1))
    assert classification_metrics(probabilities, labels, names(4))["balanced_accuracy"] == pytest.approx(expected)


def test_a_truth_that_got_zero_costs_what_scikit_learn_says():
    probabilities = np.array([[1, 0], [0.25, 0.75]], dtype=np.float32)
    loss = classification_metrics(probabilities, [1, 1], names(2))["loss"]
    assert np.isfinite(loss)
    assert loss == pytest.approx(sk.log_loss([1, 1], probabilities, labels=[0, 1]), rel=1e-6)


# Wilson's interval without continuity correction. The last four are Newcombe 1998, Table I, method 3; at 0 of n the
# formula shrinks to z^2 / (n + z^2), which is 3.8415 / 13.8415 = 0.2775 for n = 10.
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(correct, count, low, high):
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
@settings(max_examples=100, deadline=None)
def test_wilson_interval_contains_the_share_and_stays_inside_0_and_1(case):
    correct, count = case
    low, high = wilson_interval(correct, count)
    assert 0 <= low <= correct / count + 1e-12
    assert correct / count - 1e-12 <= high <= 1
    assert low < high


@pytest.mark.parametrize(("correct", "count"), [(3, 2), (-1, 4), (0, 0)])
def test_wilson_interval_names_impossible_counts(correct, count):
    with pytest.raises(ValueError, match=f"{correct} of {count}"):
        wilson_interval(correct, count)


@pytest.mark.parametrize("skill", [0.5, 2.0, 4.0])
def test_calibration_error_is_torchmetrics(skill):
    probabilities, labels = answers(1000, 6, skill=skill)
    ours = classification_metrics(probabilities, labels, names(6))["calibration"]
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=6, n_bins=15, norm="l1"
    )
    assert ours["ece"] == pytest.approx(float(theirs), abs=1e-6)
    assert sum(bin["count"] for bin in ours["bins"]) == 1000
    assert len(ours["bins"]) == 15
    accuracy = sk.accuracy_score(labels, probabilities.argmax(axis=1))
    assert ours["overconfidence"] == pytest.approx(probabilities.max(axis=1).mean() - accuracy, abs=1e-6)


def test_brier_of_two_classes_is_twice_scikit_learns():
    probabilities, labels = answers(300, 2)
    brier = classification_metrics(probabilities, labels, names(2))["calibration"]["brier"]
    assert brier == pytest.approx(2 * sk.brier_score_loss(labels, probabilities[:, 1]), rel=1e-5)


def test_complete_certainty_is_in_the_last_bin_and_an_empty_bin_has_no_accuracy():
    bins = classification_metrics(np.eye(2, dtype=np.float32), [0, 0], names(2))["calibration"]["bins"]
    assert bins[-1]["count"] == 2
    assert (bins[-1]["right"], bins[-1]["accuracy"], bins[-1]["confidence"]) == (1, 0.5, 1.0)
    assert bins[0]["accuracy"] is None


@pytest.mark.parametrize("batch", [1, 32, 64, 128, 129])
def test_128_right_and_one_wrong_is_128_of_129_whatever_the_batches(batch):
    probabilities = np.tile(np.float32([0.9, 0.1]), (129, 1))
    labels = np.zeros(129, dtype=int)
    labels[-1] = 1  # alone in its batch of 64: a mean of batch means would say 2/3
    parts = [slice(start, start + batch) for start in range(0, 129, batch)]
    together = np.concatenate([probabilities[part] for part in parts])
    result = classification_metrics(together, np.concatenate([labels[part] for part in parts]), names(2))
    assert result["top1"] == 128 / 129
    assert result["majority_baseline"] == {"class": "class 0", "share": 128 / 129}
    assert result["loss"] == pytest.approx((128 * -np.log(0.9) - np.log(0.1)) / 129, rel=1e-6)


def test_a_class_without_images_has_no_recall_and_is_not_counted_as_zero():
    probabilities = np.float32([[0.8, 0.1, 0.1, 0], [0.7, 0.2, 0.1, 0], [0.1, 0.2, 0.7, 0]])
    result = classification_metrics(probabilities, [0, 0, 0], ["a", "b", "c", "d"])
    rows = {row["class"]: row for row in result["per_class"]}
    assert rows["a"]["precision"] == 1.0
    assert rows["a"]["recall"] == pytest.approx(2 / 3)
    assert (rows["b"]["precision"], rows["b"]["recall"], rows["b"]["f1"]) == (None, None, None)
    # c was answered once and wrongly: its precision and its f1 are truly 0, its recall is unknown.
    assert (rows["c"]["precision"], rows["c"]["recall"], rows["c"]["f1"]) == (0.0, None, 0.0)
    assert result["balanced_accuracy"] == pytest.approx(2 / 3)
    assert result["macro_f1"] == pytest.approx((0.8 + 0.0) / 2)


def test_a_single_image():
    result = classification_metrics(np.float32([[0.2, 0.5, 0.3]]), [1], ["가", "나", "다"])
    assert (result["count"], result["top1"], result["macro_f1"]) == (1, 1.0, 1.0)
    assert result["top1_interval"] == pytest.approx((0.2065, 1.0), abs=5e-5)


def test_top5_has_the_baseline_of_the_five_commonest():
    probabilities = np.full((14, 7), 1 / 7, dtype=np.float32)
    labels = np.array([0] * 6 + [1] * 3 + [2, 3, 4, 5, 6])
    result = classification_metrics(probabilities, labels, names(7))
    assert result["top1"] == 6 / 14  # equal probabilities rank in index order
    assert result["top5"] == 12 / 14
    assert result["top5_baseline"] == 12 / 14


def test_pairs_that_are_confused_come_first_and_the_matrix_only_where_it_can_be_read():
    labels = np.repeat([0, 1, 2], [10, 4, 3])
    answered = np.array([0] * 7 + [1] + [2] * 2 + [0] * 3 + [1] + [2] * 3)
    few = classification_metrics(np.eye(3, dtype=np.float32)[answered], labels, ["a", "b", "c"])
    assert few["confused"] == [
        {"truth": "b", "predicted": "a", "count": 3},
        {"truth": "a", "predicted": "c", "count": 2},
        {"truth": "a", "predicted": "b", "count": 1},
    ]
    assert few["confusion"] == [[7, 1, 2], [3, 1, 0], [0, 0, 3]]
    many = classification_metrics(np.eye(101, dtype=np.float32)[answered], labels, names(101))
    assert many["confusion"] is None
    assert [pair["count"] for pair in many["confused"]] == [3, 2, 1]


def test_the_result_is_plain_json():
    result = classification_metrics(*answers(50, 7), names(7))
    again = json.loads(json.dumps(result, allow_nan=False))
    assert again["top1_interval"] == list(result["top1_interval"])
    assert again["confusion"] == result["confusion"]


GOOD = np.float32([[0.5, 0.5], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("probabilities", "labels", "class_names", "said"),
    [
        (GOOD[0], [0], "ab", r"\(2,\)"),
        (GOOD[:0], [], "ab", r"\(0, 2\)"),
        (GOOD, [0], "ab", r"labels must have shape \(2,\).*\(1,\)"),
        (GOOD, [0, 2], "ab", "got 2 in row 1"),
        (GOOD, [-1, 0], "ab", "got -1 in row 0"),
        (GOOD, [0.0, 1.0], "ab", "float64"),
        (GOOD, [True, False], "ab", "bool"),
        (GOOD, [None, 1], "ab", "object"),
        (GOOD, [0, 1], "abc", "2 names, one per column, got 3"),
        (np.float32([[0.5, 0.5], [np.nan, 1]]), [0, 1], "ab", "nan.* in row 1"),
        (np.float32([[0.5, 0.5], [2, -1]]), [0, 1], "ab", "min -1.0 in row 1"),
        (np.float32([[3.0, 2.0], [0, 1]]), [0, 1], "ab", "sum 5.0.* in row 0"),  # logits, not probabilities
    ],
)
def test_bad_input_is_named(probabilities, labels, class_names, said):
    with pytest.raises(ValueError, match=said):
        classification_metrics(probabilities, labels, list(class_names))


def test_mistakes_are_ranked_surest_first_and_right_answers_least_sure_first():
    probabilities = np.float32([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.6, 0.4]])
    order = ranked(probabilities, [1, 1, 1, 0, 0], ["a", "b", "c", "d", "e"])
    assert [image["id"] for image in order["wrong"]] == ["b", "a"]
    assert [image["id"] for image in order["right"]] == ["d", "e", "c"]
    surest = order["wrong"][0]
    assert (surest["row"], surest["label"], surest["predicted"]) == (1, 1, 0)
    assert (surest["confidence"], surest["label_probability"]) == pytest.approx((0.9, 0.1))
    assert json.loads(json.dumps(order)) == order


def test_ranking_needs_an_id_per_image():
    with pytest.raises(ValueError, match="2 entries, one per row of probabilities, got 1"):
        ranked(GOOD, [0, 1], ["a"])
