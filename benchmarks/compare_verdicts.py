"""How often what `compare` says is true, by simulated classifiers whose difference is known; and how long it takes.

Two classifiers answer n images; an image that only one of them gets right is drawn with a known probability for each of
the two. Of 400 such comparisons: how often the 95 % interval has the true difference in it, and how often a verdict is
given, by the interval alone and as `compare` gives it, with McNemar's test and the least number of images.

    python benchmarks/compare_verdicts.py
"""

from __future__ import annotations

import time

import numpy as np
from common import store

from handlens.evaluation.paired import EachImage, paired
from handlens.evaluation.resampling import ClassBoxes, accuracy, mean_average_precision_50
from handlens.machine import describe

REPEATS = 400
BOTH = 0.75  # of the images both get right
SETTINGS = ((0.06, 0.06), (0.03, 0.08))  # only the first, only the second is right


def classifier(right: np.ndarray) -> EachImage:
    labels = np.zeros(len(right), dtype=np.int64)
    return EachImage(
        right.astype(float), right.astype(float), "", True, True, accuracy(right, labels, 1), 4 * len(right)
    )


def simulated(images: int, only_first: float, only_second: float, rng: np.random.Generator) -> dict[str, object]:
    covered, by_interval, given, wrong = 0, 0, 0, 0
    true = only_second - only_first
    for _ in range(REPEATS):
        chances = [BOTH, only_first, only_second, 1 - BOTH - only_first - only_second]
        kind = rng.choice(4, size=images, p=chances)
        (found,) = paired([classifier((kind == 0) | (kind == 1)), classifier((kind == 0) | (kind == 2))])
        low, high = found.interval or (np.nan, np.nan)
        covered += low <= true <= high
        by_interval += low > 0 or high < 0
        given += found.better != 0
        wrong += found.better != 0 and found.better != np.sign(true)
    return {
        "images": images,
        "true_difference": round(true, 3),
        "true difference inside the interval": covered / REPEATS,
        "verdict by the interval alone": by_interval / REPEATS,
        "verdict of compare": given / REPEATS,
        "of them wrong": wrong / REPEATS,
    }


def large_detection(rng: np.random.Generator) -> str:
    """As many images, classes and boxes as COCO's validation set has."""
    images, classes, boxes = 5000, 80, 250_000

    def model() -> EachImage:
        per_class = [
            ClassBoxes(
                rng.integers(0, images, boxes // classes),
                rng.random(boxes // classes) < 0.1,
                (rng.random(images) < 0.06).astype(float),
            )
            for _ in range(classes)
        ]
        numbers = 6 * boxes + images * classes
        scores = rng.random(images)
        return EachImage(scores, scores, "", False, False, mean_average_precision_50(per_class), numbers)

    models = [model(), model()]
    begin = time.perf_counter()
    (found,) = paired(models)
    seconds, machine = time.perf_counter() - begin, describe()
    return (
        f"{images} images, {classes} classes, {boxes} boxes: {found.draws} samples of two models in {seconds:.0f} s, "
        f"with a load of {machine['load']} on {machine['cores']} cores"
    )


def main() -> None:
    rng = np.random.default_rng(0)
    rows = [
        simulated(images, *setting, rng=np.random.default_rng(images))
        for setting in SETTINGS
        for images in (10, 30, 153, 814)
    ]
    store("compare_verdicts", rows, notes=[large_detection(rng)])


if __name__ == "__main__":
    main()
