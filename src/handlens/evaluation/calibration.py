"""Does 90 % sure mean right nine times in ten? Measured, and corrected by a temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # Guo et al. 2017, section 4

# Log loss is infinite where the truth got exactly 0, which a float32 softmax does hand out.
# Probabilities are raised to this first; one image can then cost 15.9 at most. scikit-learn does the same.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)
# Our choice: nothing that was trained is off by more, and beyond it float32 probabilities are 0 and 1.
TEMPERATURES = (0.05, 20.0)
SPREAD = 0.5  # of the logarithm of a temperature, before any image has been seen; our choice
GRID = 25  # temperatures that are tried before the best is refined
NEAR = 1e-3  # of the logarithm of a temperature


def calibration(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """How far the top probability is from the share of right answers.

    Args:
        probabilities: (N, K), rows that sum to 1.
        labels: (N,) class indices. Both as `metrics.classification_metrics` checks them.

    Returns:
        ece: expected calibration error over the bins, in [0, 1]; 0 is perfect.
        bins: fifteen of equal width over the top probability, each `low < probability <= high`, `count`,
            `right`, and mean `confidence` and `accuracy`, which are None in an empty bin.
        brier: mean over images of the squared error summed over classes (Brier 1950), in [0, 2].
        nll: mean of -ln(probability of the truth), clipped at SMALLEST_PROBABILITY.
        overconfidence: mean top probability minus accuracy; above 0 means surer than right.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, equations 1 to 3.
    """
    wide = probabilities.astype(np.float64)
    rows = np.arange(len(labels))
    confidence = wide.max(axis=1)
    right = wide.argmax(axis=1) == labels
    one_hot = np.zeros_like(wide)
    one_hot[rows, labels] = 1
    bins = _bins(confidence, right)
    gaps = [bin["count"] * abs(bin["accuracy"] - bin["confidence"]) for bin in bins if bin["count"]]
    return {
        "ece": sum(gaps) / len(labels),
        "bins": bins,
        "brier": float(np.square(wide - one_hot).sum(axis=1).mean()),
        "nll": float(-np.log(wide[rows, labels].clip(SMALLEST_PROBABILITY, 1)).mean()),
        "overconfidence": float(confidence.mean() - right.mean()),
    }


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64], *, present: float = 1.0) -> float:
    """The temperature T with the least mean cross-entropy of softmax(logits / T), within TEMPERATURES.

    It changes no prediction, only how sure they are: above 1 less sure, below 1 surer.

    Args:
        probabilities: (N, K), of images that were not learned from; labels: (N,) class indices.
        present: the temperature that they have already; what is returned comes on top of it.

    log T has a normal prior of standard deviation SPREAD, which counts as some ten to twenty images: a model that is
    right about all of a few images would be certain of everything otherwise. Labels that count as (N + 1) / (N + 2),
    as in Platt 1999, would do that too, but on flowers make the model too unsure (docs/confidence.md).

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    logits = log_probabilities(probabilities)
    count = len(labels)
    of_label = logits[np.arange(count), labels].mean()

    def score(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        total = np.log(np.exp(scale * (logits - logits.max(axis=1, keepdims=True))).sum(axis=1))
        cross_entropy = (total + scale * logits.max(axis=1)).mean() - scale * of_label
        return float(cross_entropy + ((log_temperature + math.log(present)) / SPREAD) ** 2 / (2 * count))

    lowest, highest = TEMPERATURES
    grid = np.linspace(math.log(lowest), math.log(highest), GRID)
    best = int(np.argmin([score(one) for one in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    return math.exp(_minimum(score, float(low), float(high)))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is least, by golden section search (Kiefer 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > NEAR:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def tempered(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """softmax(logits / temperature) (N, K) from softmax(logits)."""
    logits = log_probabilities(probabilities)
    return softmax(logits / temperature).astype(np.float32)


def log_probabilities(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits (N, K) but for a constant of each row; of a probability of 0, that of the smallest float32."""
    return np.log(probabilities.astype(np.float64).clip(np.finfo(np.float32).tiny, 1))


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(N, K) of (N, K)."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    edges = np.linspace(0, 1, BINS + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")  # low < confidence <= high
    bins = []
    for number in range(BINS):
        inside = bin_of == number
        count = int(inside.sum())
        bins.append(
            {
                "low": float(edges[number]),
                "high": float(edges[number + 1]),
                "count": count,
                "right": int(right[inside].sum()),
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(right[inside].mean()) if count else None,
            }
        )
    return bins
