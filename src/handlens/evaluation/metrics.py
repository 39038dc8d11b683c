"""How good a classifier is, by counts over images: never a mean of batch means."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handlens.evaluation.calibration import calibration

MATRIX_CLASSES = 100  # a million numbers for 1000 classes are no answer
Z_95 = 1.959963984540054  # the standard normal's 97.5 % point


def classification_metrics(
    probabilities: NDArray[np.float32], labels: ArrayLike, class_names: Sequence[str]
) -> dict[str, Any]:
    """Everything that is said about a classifier on labeled images, ready for JSON.

    Args:
        probabilities: (N, K) float, rows that sum to 1.
        labels: (N,) int, the true class of each row. Images without a label are left out by the caller.
        class_names: K names in index order.

    Returns:
        count, correct: images, and how many of them are right.
        top1, top1_interval: accuracy in [0, 1] and its 95 % Wilson interval (low, high).
        top5, top5_interval: the truth is among the five likeliest. None for K <= 5, where it says nothing.
        majority_baseline: {class, share}: the accuracy of always answering the commonest class of these labels.
        top5_baseline: the top5 of always answering the five commonest. None for K <= 5.
        balanced_accuracy: mean recall of the classes that have images here.
        loss: mean cross-entropy, natural logarithm, clipped as `calibration.SMALLEST_PROBABILITY` says.
        per_class: {class, count, correct, predicted, precision, recall, f1}. A quotient whose denominator
            is 0 is None and never 0: precision of a class that was never answered, recall of a class
            without images, f1 of a class that is neither answered nor there.
        macro_f1: mean of the f1 that are not None.
        confused: {truth, predicted, count} of every pair of classes that was confused, the most first.
        confusion: K x K counts, rows are the truth and columns the answer; None above MATRIX_CLASSES, where
            `confused` and `per_class` say the same in a readable length.
        calibration: see `calibration.calibration`.

    Equal probabilities rank in index order, as in `results.Classes`.

    Raises:
        ValueError: shapes disagree, nothing to count, a label outside the classes, or rows that are
            not probabilities. The first offending value is named.
    """
    labels = checked_labels(probabilities, labels)
    count, classes = probabilities.shape
    if len(class_names) != classes:
        raise ValueError(f"class_names must have {classes} names, one per column, got {len(class_names)}")
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    per_class = [_class_row(name, index, confusion) for index, name in enumerate(class_names)]
    correct = int(np.trace(confusion))
    commonest = int(confusion.sum(axis=1).argmax())
    calibrated = calibration(probabilities, labels)
    return {
        "count": count,
        "correct": correct,
        "top1": correct / count,
        "top1_interval": wilson_interval(correct, count),
        **_top5(probabilities, labels),
        "majority_baseline": {"class": class_names[commonest], "share": per_class[commonest]["count"] / count},
        "balanced_accuracy": _mean([row["recall"] for row in per_class]),
        "loss": calibrated["nll"],
        "per_class": per_class,
        "macro_f1": _mean([row["f1"] for row in per_class]),
        "confused": _confused(confusion, class_names),
        "confusion": confusion.tolist() if classes <= MATRIX_CLASSES else None,
        "calibration": calibrated,
    }


def wilson_interval(correct: int, count: int, *, z: float = Z_95) -> tuple[float, float]:
    """Where a share lies, given `correct` of `count`; 95 % unless told. Holds at 0, at 1, and for few images.

    Raises:
        ValueError: count is not positive, or correct is outside it.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= correct <= count or count < 1:
        raise ValueError(f"correct must be in [0, count] and count positive, got {correct} of {count}")
    share = correct / count
    scale = 1 + z * z / count
    center = (share + z * z / (2 * count)) / scale
    half = z / scale * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, center - half), min(1.0, center + half)


def checked_labels(probabilities: NDArray[np.float32], labels: ArrayLike) -> NDArray[np.int64]:
    """Labels (N,) as int64, once they and the probabilities (N, K) are known to fit together.

    Raises:
        ValueError: as in `classification_metrics`.
    """
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(f"probabilities must be (N, K) with at least one row and column, got {probabilities.shape}")
    count, classes = probabilities.shape
    found = np.asarray(labels)
    if found.shape != (count,):
        raise ValueError(f"labels must have shape ({count},), one per row of probabilities, got {found.shape}")
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"labels must be class indices, got {found.dtype}, for example {found.flat[0]!r}")
    for row in np.flatnonzero((found < 0) | (found >= classes))[:1]:
        raise ValueError(f"labels must be in [0, {classes}), got {found[row]} in row {row}")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    # 1e-2 as in results.Classes: an engine that computes in bf16 rounds each probability.
    wrong = ~np.isfinite(probabilities).all(axis=1) | (probabilities.min(axis=1) < -1e-6) | (np.abs(sums - 1) > 1e-2)
    for row in np.flatnonzero(wrong)[:1]:
        raise ValueError(
            f"probabilities must be in [0, 1] and sum to 1, got sum {sums[row]}, "
            f"min {probabilities[row].min()} in row {row}"
        )
    return found.astype(np.int64)


def _class_row(name: str, index: int, confusion: NDArray[np.int64]) -> dict[str, Any]:
    correct = int(confusion[index, index])
    count = int(confusion[index].sum())
    predicted = int(confusion[:, index].sum())
    return {
        "class": name,
        "count": count,
        "correct": correct,
        "predicted": predicted,
        "precision": correct / predicted if predicted else None,
        "recall": correct / count if count else None,
        "f1": 2 * correct / (count + predicted) if count + predicted else None,
    }


def _confused(confusion: NDArray[np.int64], names: Sequence[str]) -> list[dict[str, Any]]:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = [
        {"truth": names[truth], "predicted": names[answer], "count": int(wrong[truth, answer])}
        for truth, answer in np.argwhere(wrong)
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])


def _top5(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    count, classes = probabilities.shape
    if classes <= 5:
        return {"top5": None, "top5_interval": None, "top5_baseline": None}
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    correct = int((likeliest == labels[:, None]).any(axis=1).sum())
    commonest = np.sort(np.bincount(labels, minlength=classes))[-5:]
    return {
        "top5": correct / count,
        "top5_interval": wilson_interval(correct, count),
        "top5_baseline": int(commonest.sum()) / count,
    }


def _mean(values: list[float | None]) -> float:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined)  # one image is enough for one defined value
