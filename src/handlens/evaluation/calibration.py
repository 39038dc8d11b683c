"""Does 90 % sure mean right nine times in ten? Measured, not corrected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # Guo et al. 2017, section 4

# Log loss is infinite where the truth got exactly 0, which a float32 softmax does hand out.
# Probabilities are raised to this first; one image can then cost 15.9 at most. scikit-learn does the same.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)


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
