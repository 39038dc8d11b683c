"""Is one model better than another on the same images? Paired bootstrap over images, and McNemar's exact test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, fsum, lgamma, log

import numpy as np
from numpy.typing import NDArray

SEED = 0
DRAWS = 2000  # bootstrap samples
FEWEST_DRAWS = 200  # where a sample takes long; our choice
NUMBERS = 2e9  # that all samples together may touch: about half a minute (benchmarks/compare_verdicts.py)
NUMBERS_OF_ONE = 2e8  # of one model, in every evaluation: two seconds, or FEWEST_DRAWS
AT_ONCE = 4e6  # numbers of one run that are held in memory for several samples together
FEWEST_IMAGES = 20  # with fewer, percentiles of bootstrap samples say too little; our choice
LEVEL = (2.5, 97.5)  # percentiles: a 95 % interval
SURE = 0.05  # a larger p-value is chance

Floats = NDArray[np.float64]
Resampled = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, eq=False)
class EachImage:
    """What each image adds to a model's metric, so that the metric can be computed again from any sample of images.

    Attributes:
        scores: (N,) of each image alone, higher is better; nan where an image has nothing to measure.
        fine: (N,) the same with more steps, to sort images by; where a score is 0 or 1, for example the probability of
            the true class.
        title: what an image is judged by.
        outright: an image is either right (score 1) or wrong (0).
        averaged: the metric is the mean of the scores.
        resampled: from how often each image is in each of B samples, (B, N), to the metric (B,) and the metric of each
            class (B, K); nan where a sample has nothing of it.
        numbers: how many numbers one sample touches.
    """

    scores: Floats
    fine: Floats
    title: str
    outright: bool
    averaged: bool
    resampled: Resampled
    numbers: int


@dataclass(frozen=True)
class Sides:
    """On which images one model did better than the other.

    Attributes:
        test: "McNemar" where an image is right or wrong, else "sign test"; both are the exact binomial test.
        only_first, only_second: images that only this model got right, or that it got better than the other.
        p: two-sided; 1 where neither has such an image.
        decides: the test is of the metric itself, a share of right images, and has a say in the verdict.
    """

    test: str
    only_first: int
    only_second: int
    p: float
    decides: bool


@dataclass(frozen=True, eq=False)
class Paired:
    """The second model's metric minus the first's.

    Attributes:
        interval: 95 %, percentiles of the bootstrap; None where no sample has a metric.
        class_intervals: K of them, of each class's difference.
        images: with a score.
        sides: which model did better on how many of them.
        draws: bootstrap samples.
    """

    interval: tuple[float, float] | None
    class_intervals: tuple[tuple[float, float] | None, ...]
    images: int
    sides: Sides
    draws: int

    @property
    def better(self) -> int:
        """1 where the second model's metric is higher beyond chance, -1 where it is lower, 0 where nobody can tell.

        The interval must exclude 0; where the metric is the share of right images, McNemar's test must not call it
        chance; and with fewer than FEWEST_IMAGES nothing is told.
        """
        if self.interval is None or self.images < FEWEST_IMAGES:
            return 0
        if self.sides.decides and self.sides.p >= SURE:
            return 0
        low, high = self.interval
        return 1 if low > 0 else -1 if high < 0 else 0


MCNEMAR, SIGN_TEST = "McNemar", "sign test"


def paired(models: Sequence[EachImage], *, step: Callable[[int, int], None] | None = None) -> list[Paired]:
    """Compare each model after the first with the first one, all on the same bootstrap samples of the images.

    Args:
        models: of the same N images in the same order, and of the same K classes.
        step: told (samples done, samples) from time to time.

    Returns:
        one for each model after the first.

    Raises:
        ValueError: fewer than two models, no image, or numbers of images that differ.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13: percentile interval. Both models
    are measured on the same sample, so that what makes a sample hard cancels out.
    """
    counts = {len(model.scores) for model in models}
    if len(models) < 2 or len(counts) != 1 or counts == {0}:
        raise ValueError(f"at least two models of the same images are needed, got {len(models)} of {sorted(counts)}")
    (first, first_classes), *others = sampled(models, numbers=NUMBERS, step=step)
    found = []
    for model, (metric, of_class) in zip(models[1:], others, strict=True):
        apart = of_class - first_classes
        known = ~np.isnan(models[0].scores + model.scores)
        found.append(
            Paired(
                interval(metric - first),
                tuple(interval(column) for column in apart.T),
                int(known.sum()),
                sides(models[0], model),
                len(first),
            )
        )
    return found


def sampled(
    models: Sequence[EachImage], *, numbers: float, step: Callable[[int, int], None] | None = None
) -> list[tuple[Floats, Floats]]:
    """The metric (B,) of each model and of each class (B, K), on the same B bootstrap samples of the images.

    Args:
        numbers: that all samples together may touch; it decides B, within FEWEST_DRAWS and DRAWS.
        step: as of `paired`.
    """
    count = len(models[0].scores)
    heaviest = max(model.numbers for model in models)
    total = sum(model.numbers for model in models)
    draws = int(np.clip(numbers / max(total, 1), FEWEST_DRAWS, DRAWS))
    together = int(np.clip(AT_ONCE / max(heaviest, count), 1, draws))
    rng = np.random.default_rng(SEED)
    found: list[list[tuple[Floats, Floats]]] = [[] for _ in models]
    for done in range(0, draws, together):
        size = min(together, draws - done)
        weights = multiplicities(rng.integers(0, count, (size, count)), count)
        for model, parts in zip(models, found, strict=True):
            parts.append(model.resampled(weights))
        if step is not None:
            step(done + size, draws)
    return [
        (np.concatenate([metric for metric, _ in parts]), np.concatenate([of_class for _, of_class in parts]))
        for parts in found
    ]


@dataclass(frozen=True, eq=False)
class MetricInterval:
    """How far a metric could be off because of the images that it happened to be measured on.

    Attributes:
        value, classes: the metric, and that of each class (K,); nan where there is nothing of it.
        interval, class_intervals: 95 %, percentiles of the bootstrap; None where no sample has a metric.
        draws: bootstrap samples.
    """

    value: float
    interval: tuple[float, float] | None
    classes: Floats
    class_intervals: tuple[tuple[float, float] | None, ...]
    draws: int


def metric_interval(model: EachImage, *, step: Callable[[int, int], None] | None = None) -> MetricInterval:
    """The metric with its interval.

    Source: as of `paired`.
    """
    ((metric, of_class),) = sampled([model], numbers=NUMBERS_OF_ONE, step=step)
    value, classes = model.resampled(np.ones((1, len(model.scores))))
    return MetricInterval(float(value[0]), interval(metric), classes[0], tuple(map(interval, of_class.T)), len(metric))


def multiplicities(draws: NDArray[np.int64], count: int) -> Floats:
    """How often each of `count` images is in each sample: (B, N) places -> (B, count)."""
    rows = np.arange(len(draws))[:, None] * count
    return np.bincount((draws + rows).ravel(), minlength=len(draws) * count).reshape(len(draws), count).astype(float)


def interval(values: Floats) -> tuple[float, float] | None:
    """The 95 % percentile interval of what is not nan; None where all is."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, LEVEL)
    return float(low), float(high)


def sides(first: EachImage, second: EachImage) -> Sides:
    """On how many images each is better, and the probability of so unequal a division by chance."""
    only_first = int((first.scores > second.scores).sum())
    only_second = int((second.scores > first.scores).sum())
    outright = first.outright and second.outright
    decides = outright and first.averaged and second.averaged
    test = MCNEMAR if outright else SIGN_TEST
    return Sides(test, only_first, only_second, exact_test(only_first, only_second), decides)


def exact_test(only_first: int, only_second: int) -> float:
    """McNemar's exact test: the two-sided binomial probability of a division at least as unequal, at even chances.

    Raises:
        ValueError: a count is negative.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions"; exact form as
    Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs data", section "exact conditional".
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"counts must not be negative, got {only_first} and {only_second}")
    count, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    logs = (lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) - count * log(2) for k in range(fewer + 1))
    return min(1.0, 2 * fsum(map(exp, logs)))
