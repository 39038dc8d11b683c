"""Intervals against scipy's bootstrap, the test against scipy's, and every resampled metric against the metric itself,
computed anew on a data set in which images really stand several times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from handlens.data.labels.boxes import Box
from handlens.evaluation import paired as module
from handlens.evaluation import resampling
from handlens.evaluation.detection import coco_json, evaluate_coco
from handlens.evaluation.metrics import classification_metrics
from handlens.evaluation.paired import DRAWS, SEED, EachImage, exact_test, multiplicities, paired
from handlens.evaluation.regression import mean_r2
from handlens.evaluation.segmentation import segmentation_metrics
from handlens.evaluation.tags import tag_metrics
from handlens.results import Boxes

SIDE = 400


def of_scores(scores: np.ndarray, *, outright: bool = False) -> EachImage:
    """A model whose metric is the mean of its scores."""

    def resampled(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = weights @ scores / weights.sum(axis=1)
        return mean, mean[:, None]

    return EachImage(scores, scores, "score", outright, True, resampled, len(scores))


@pytest.mark.parametrize("together", [7, 10_000])
def test_the_interval_is_scipys(monkeypatch, together):
    """Of the paired percentile bootstrap, whatever number of samples is held in memory at once."""
    rng = np.random.default_rng(5)
    first = rng.random(61)
    second = 0.6 * first + 0.5 * rng.random(61)
    monkeypatch.setattr(module, "AT_ONCE", together * 61)
    (found,) = paired([of_scores(first), of_scores(second)])
    theirs = bootstrap(
        (first, second),
        lambda a, b, axis: b.mean(axis=axis) - a.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=DRAWS,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    assert found.draws == DRAWS
    assert found.interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert found.class_intervals == (found.interval,)
    apart = bootstrap((second,), np.mean, method="percentile", rng=np.random.default_rng(SEED)).confidence_interval
    assert found.interval[1] - found.interval[0] < 0.9 * (apart.high - apart.low)  # pairing is worth something


@pytest.mark.parametrize(
    ("one", "other"), [(0, 0), (3, 3), (0, 5), (5, 0), (9, 17), (1, 40), (800, 700), (30_000, 31_000)]
)
def test_mcnemars_test_is_the_binomial_test(one, other):
    expected = binomtest(one, one + other, 0.5).pvalue if one + other else 1.0
    assert exact_test(one, other) == pytest.approx(expected, rel=1e-7, abs=1e-300)


def test_counts_that_cannot_be():
    with pytest.raises(ValueError, match="must not be negative, got -1 and 2"):
        exact_test(-1, 2)
    with pytest.raises(ValueError, match=r"at least two models of the same images are needed, got 2 of \[3, 4\]"):
        paired([of_scores(np.ones(3)), of_scores(np.ones(4))])
    with pytest.raises(ValueError, match="at least two models"):
        paired([of_scores(np.ones(3))])


def right(*spans: tuple[float, int]) -> EachImage:
    return of_scores(np.concatenate([np.full(count, score) for score, count in spans]), outright=True)


def test_better_only_beyond_chance():
    base, better = right((0.0, 60), (1.0, 40)), right((1.0, 30), (0.0, 30), (1.0, 40))
    assert [entry.better for entry in paired([base, better, base])] == [1, 0]
    assert paired([better, base])[0].better == -1
    assert paired([base, base])[0].interval == (0.0, 0.0)


def test_five_of_five_are_not_enough():
    """The bootstrap alone would be sure: every sample of images on which one model is always right says the same."""
    few, none = right((1.0, 5)), right((0.0, 5))
    (found,) = paired([none, few])
    assert found.interval == (1.0, 1.0)
    assert (found.better, found.sides.only_second) == (0, 5)
    (found,) = paired([right((0.0, 5), (1.0, 95)), right((1.0, 100))])
    assert found.interval[0] > 0 and found.sides.p == 0.0625 and found.better == 0  # McNemar: may be chance


def test_mcnemars_test_decides_only_about_the_share_of_right_images():
    """Of several labels the metric is another, whose difference may be sure where that of right images is not."""
    first, second = right((0.0, 5), (1.0, 95)), right((1.0, 100))
    (found,) = paired([replace(first, averaged=False), replace(second, averaged=False)])
    assert (found.sides.test, found.sides.p, found.better) == ("McNemar", 0.0625, 1)


def test_a_sign_test_where_images_are_not_right_or_wrong():
    (found,) = paired([of_scores(np.linspace(0, 1, 30)), of_scores(np.linspace(0, 1, 30) + 0.01)])
    assert (found.sides.test, found.sides.only_second, found.better) == ("sign test", 30, 1)


def test_heavy_metrics_get_fewer_samples_in_known_number():
    heavy = of_scores(np.ones(4))
    heavy = replace(heavy, numbers=10**9)
    seen = []
    (found,) = paired([heavy, heavy], step=lambda done, total: seen.append((done, total)))
    assert found.draws == module.FEWEST_DRAWS
    assert seen[-1] == (found.draws, found.draws)


# Metrics: of a sample, and of the data set in which the images of the sample stand as often as they were drawn.


def drawn(count: int, *, seed: int = 3, samples: int = 12) -> np.ndarray:
    """Samples of places, the first of all images once."""
    draws = np.random.default_rng(seed).integers(0, count, (samples, count))
    draws[0] = np.arange(count)
    return draws


def same(resampled, draws, expected) -> None:
    """`expected` gives the metric and that of each class, None where there is none, of an array of places."""
    whole, of_class = resampled(multiplicities(draws, draws.shape[1]))
    for row, places in enumerate(draws):
        metric, classes = expected(places)
        as_numbers = np.array([np.nan if value is None else value for value in (metric, *classes)])
        np.testing.assert_allclose([whole[row], *of_class[row]], as_numbers, rtol=1e-9, atol=1e-12)
    assert len(set(whole.tolist())) > 1  # else the samples would say nothing


def test_accuracy_and_recall():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(4), 25).astype(np.float32)
    labels = rng.integers(0, 3, 25)  # nothing of the fourth class

    def expected(places):
        found = classification_metrics(rows[places], labels[places], list("abcd"))
        return found["top1"], [row["recall"] for row in found["per_class"]]

    same(resampling.accuracy(rows.argmax(axis=1) == labels, labels, 4), drawn(25), expected)


def test_mean_iou():
    rng = np.random.default_rng(1)
    truths = [rng.integers(0, 2 if i % 2 else 3, (8, 9)).astype(np.uint8) for i in range(9)]
    answers = [np.where(rng.random((8, 9)) < 0.6, truth, rng.integers(0, 3)).astype(np.uint8) for truth in truths]
    for truth in truths:
        truth[0, :3] = 255
    counts = np.zeros((9, 3, 4), dtype=np.int64)
    for image, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        known = truth != 255
        counts[image] = [
            np.bincount(values, minlength=4)
            for values in (truth[known & (truth == answer)], truth[known], answer[known])
        ]

    def expected(places):
        found = segmentation_metrics([(answers[i], truths[i]) for i in places], list("abcd"))
        return found["miou"], [row["iou"] for row in found["per_class"]]

    same(resampling.mean_iou(counts), drawn(9), expected)


def test_average_precision_of_labels():
    rng = np.random.default_rng(2)
    scores = rng.random((18, 3)).round(1).astype(np.float32)  # many equal ones
    truth = rng.random((18, 3)) < (0.1, 0.5, 0.9)

    def expected(places):
        found = tag_metrics(scores[places], truth[places], list("abc"), [0.5] * 3)
        return found["map"], [row["ap"] for row in found["per_class"]]

    same(resampling.mean_average_precision(scores, truth), drawn(18), expected)


def test_r2_and_absolute_errors():
    rng = np.random.default_rng(4)
    truth = rng.normal(1e4, 5, (15, 2))
    predicted = truth + rng.normal(0, 2, (15, 2))

    def expected(places):
        return mean_r2(predicted[places], truth[places]), np.abs(predicted - truth)[places].mean(axis=0)

    same(resampling.mean_r2(predicted, truth), drawn(15), expected)
    whole, _ = resampling.mean_r2(predicted, truth)(np.eye(15)[:1] * 15)  # one image fifteen times does not vary
    assert np.isnan(whole).all()


def scenes(seed: int, images: int = 14) -> tuple[list[Boxes], list[tuple[Box, ...]]]:
    """Objects with boxes around most of them, crowds and difficult ones among them, and boxes of nothing."""
    rng = np.random.default_rng(seed)
    predictions, truths = [], []
    for image in range(images):
        truth, rows = [], []
        for _ in range(int(rng.integers(0, 7)) if image else 0):
            left, top = rng.uniform(0, 250, 2)
            width, height = rng.uniform(10, 140, 2)
            kind, label = rng.random(), int(rng.integers(0, 2))
            corners = (left, top, left + width, top + height)
            truth.append(
                Box(
                    label=label,
                    **dict(zip(("left", "top", "right", "bottom"), corners, strict=True)),
                    crowd=kind < 0.15,
                    difficult=0.15 <= kind < 0.3,
                )
            )
            near = np.array(corners) + rng.normal(0, 0.12 * width, (int(rng.integers(0, 4)), 4))
            rows += [(*box, label, rng.random()) for box in near]
        rows += [(*rng.uniform(0, 180, 2), *rng.uniform(200, 400, 2), int(rng.integers(0, 3)), rng.random() / 2)]
        table = np.array([row for row in rows if row[2] > row[0] and row[3] > row[1]]).reshape(-1, 6)
        predictions.append(
            Boxes.clipped(table[:, :4], table[:, 4].astype(int), table[:, 5], tuple("abc"), height=SIDE, width=SIDE)
        )
        truths.append(tuple(truth))
    return predictions, truths


@pytest.mark.parametrize("seed", range(6))
def test_cocos_average_precision(seed):
    predictions, truths = scenes(seed)

    def expected(places):
        found = evaluate_coco([predictions[i] for i in places], [truths[i] for i in places], 3)
        curves = found["precision"][0, :, :, 0, -1]
        return found["stats"][1], [None if (curve < 0).any() else curve.mean() for curve in curves.T]

    boxes = resampling.coco_classes(*coco_json(predictions, truths, 3))
    assert sum(len(of_class.image) for of_class in boxes) < sum(map(len, predictions))  # some lie on what is ignored
    same(resampling.mean_average_precision_50(boxes), drawn(14, seed=seed), expected)
