"""How good a classifier is whose images may have several labels, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_PROBABILITY = 1e-15  # below it a loss says more about rounding than about the model
RECALLS = np.linspace(0, 1, 101)


def tag_metrics(
    probabilities: NDArray[np.float32],
    truth: NDArray[np.bool_],
    class_names: Sequence[str],
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """Everything that is said about it on labeled images, ready for JSON.

    Args:
        probabilities: (N, K) in [0, 1], each class on its own.
        truth: (N, K), which labels an image has.
        class_names: K names in index order. thresholds: K, from which a class is answered.

    Returns:
        count: images.
        map: mean of the average precisions that are not None.
        chance: the map of a random order: the mean share of images that have a class, of the same classes.
        exact: share of the images whose labels are all right, none more and none less.
        exact_baseline: {labels, share}: that of always answering the commonest set of labels.
        precision, recall, f1: over all answers together (micro). macro_f1: mean of the classes' f1 that are not None.
        loss: mean binary cross-entropy, natural logarithm, over images and classes.
        per_class: {class, count, ap, threshold, predicted, correct, precision, recall, f1, curve}. A quotient whose
            denominator is 0 is None and never 0, and so is the ap of a class without images here. curve: the best
            precision at each recall of 0, 0.01 ... 1 or more, None with ap.

    Raises:
        ValueError: shapes disagree, no image, or a number that is no probability.
    """
    count, classes = _checked(probabilities, truth)
    if len(class_names) != classes or len(thresholds) != classes:
        raise ValueError(f"{classes} names and thresholds are needed, got {len(class_names)} and {len(thresholds)}")
    answered = probabilities >= np.asarray(thresholds, dtype=np.float64)
    rows = [
        _class_row(name, probabilities[:, place], truth[:, place], answered[:, place], float(thresholds[place]))
        for place, name in enumerate(class_names)
    ]
    known = [row for row in rows if row["ap"] is not None]
    sets = Counter(map(bytes, truth))
    commonest, often = max(sets.items(), key=lambda entry: (entry[1], entry[0]))
    f1 = [row["f1"] for row in rows if row["f1"] is not None]
    sure = probabilities.astype(np.float64).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return {
        "count": count,
        "map": float(np.mean([row["ap"] for row in known])) if known else None,
        "chance": sum(row["count"] for row in known) / (count * len(known)) if known else None,
        "exact": float((answered == truth).all(axis=1).mean()),
        "exact_baseline": {
            "labels": [
                name for name, there in zip(class_names, np.frombuffer(commonest, dtype=bool), strict=True) if there
            ],
            "share": often / count,
        },
        **_quotients(answered, truth),
        "macro_f1": sum(f1) / len(f1) if f1 else None,
        "loss": float(-np.where(truth, np.log(sure), np.log(1 - sure)).mean()),
        "per_class": rows,
    }


def average_precision(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> float | None:
    """Precision at each score, weighted by the recall that is gained there; equal scores are taken together.

    Args:
        scores: (N,). truth: (N,), at least one of them true, or else the result is None.
    """
    if not truth.any():
        return None
    precision, recall = _points(scores, truth)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def mean_average_precision(probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Over the classes that have an image; 0 where none has, so that training can compare.

    Raises:
        ValueError: as `tag_metrics`.
    """
    _, classes = _checked(probabilities, truth)
    found = [average_precision(probabilities[:, place], truth[:, place]) for place in range(classes)]
    return float(np.mean([value for value in found if value is not None] or [0.0]))


def best_thresholds(probabilities: NDArray[np.float32], truth: NDArray[np.bool_], *, usual: float = 0.5) -> list[float]:
    """Per class the threshold with the best F1: for the validation images.

    Args:
        usual: of a class that no image has, or that every image has: there none is better than another.

    Returns:
        K values, each halfway between the last probability that is taken and the next (or 0), so that an engine that
        rounds otherwise answers the same; the highest of equally good ones.
    """
    _, classes = _checked(probabilities, truth)
    return [_best(probabilities[:, place], truth[:, place], usual) for place in range(classes)]


def _best(scores: NDArray[np.float32], truth: NDArray[np.bool_], usual: float) -> float:
    if not truth.any() or truth.all():
        return usual
    order = np.argsort(-scores, kind="stable")
    falling, right = scores[order].astype(float), truth[order]
    f1 = 2 * right.cumsum() / (np.arange(1, len(right) + 1) + right.sum())
    following = np.append(falling[1:], 0.0)
    f1[falling == following] = -1  # no threshold lies between equal scores
    best = int(f1.argmax())
    return float((falling[best] + following[best]) / 2)


def _points(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(precision, recall) at each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    falling, right = scores[order], truth[order].cumsum()
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    return right[last] / (last + 1), right[last] / right[-1]


def _class_row(
    name: str, scores: NDArray[np.float32], truth: NDArray[np.bool_], answered: NDArray[np.bool_], threshold: float
) -> dict[str, Any]:
    curve = None
    if truth.any():
        precision, recall = _points(scores, truth)
        best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
        curve = [round(float(best[place]), 4) for place in np.searchsorted(recall, RECALLS - 1e-12)]
    return {
        "class": name,
        "count": int(truth.sum()),
        "ap": average_precision(scores, truth),
        "threshold": threshold,
        "predicted": int(answered.sum()),
        "correct": int((answered & truth).sum()),
        **_quotients(answered, truth),
        "curve": curve,
    }


def _quotients(answered: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float | None]:
    correct, predicted, count = (int(part.sum()) for part in (answered & truth, answered, truth))
    return {
        "precision": correct / predicted if predicted else None,
        "recall": correct / count if count else None,
        "f1": 2 * correct / (predicted + count) if predicted + count else None,
    }


def _checked(probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[int, int]:
    if probabilities.ndim != 2 or 0 in probabilities.shape or probabilities.shape != truth.shape:
        raise ValueError(
            f"probabilities and truth must both be (N, K), neither 0, got {probabilities.shape} and {truth.shape}"
        )
    for row in np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(axis=1))[:1]:
        raise ValueError(f"probabilities must be in [0, 1], got {probabilities[row].tolist()} in row {row}")
    return probabilities.shape[0], probabilities.shape[1]
