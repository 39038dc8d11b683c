"""Will it survive? What int8 costs in accuracy, predicted from a simulation on a few images.

An image whose label stays costs nothing. One whose label changes costs what the float model believes: the probability
of its own label less that of the new one. If those probabilities are calibrated, the mean of this is the expected loss
of accuracy, with no labels needed and less variance than counting right and wrong answers: a label that changes where
the model was undecided costs almost nothing, whichever of the two is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.evaluation.metrics import Z_95, wilson_interval

# What a changed label costs, before any is seen: 0.06 to 0.16 on ImageNet (benchmarks/int8_prediction.py); it counts as
# much as two changed labels (our choice).
USUAL, PRIOR = 0.12, 2


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """
    Attributes:
        images: how many it was made from.
        equal: share of labels that stay.
        drop: expected loss of accuracy, a fraction; negative would be a gain. interval: 95 %.
        counted: accuracy in float less that in the simulation, where the images have labels.
    """

    images: int
    equal: float
    drop: float
    interval: tuple[float, float]
    counted: float | None

    def within(self, most: float) -> bool:
        """Whether the expected loss is no more than a fraction."""
        return self.drop <= most

    def sure(self, most: float) -> bool:
        """Whether the whole interval is on that side."""
        return self.interval[1] <= most or self.interval[0] > most

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def predict_drop(
    own: NDArray[np.floating[Any]], values: NDArray[np.floating[Any]], *, labels: Sequence[int] | None = None
) -> Prediction:
    """
    Args:
        own: (N, K) probabilities in float. values: the same in the simulation.
        labels: class indices, where they are known.

    Raises:
        ValueError: shapes that differ, or no images.
    """
    if own.shape != values.shape or own.ndim != 2 or not len(own):
        raise ValueError(f"own and values must be (N, K) of one shape, got {own.shape} and {values.shape}")
    count, rows = len(own), np.arange(len(own))
    before, after = own.argmax(axis=1), values.argmax(axis=1)
    costs = (own[rows, before] - own[rows, after]).astype(np.float64)
    equal = int((before == after).sum())
    low, high = wilson_interval(equal, count)
    mean = float(costs.mean())
    half = Z_95 * float(costs.std(ddof=min(1, count - 1))) / math.sqrt(count)
    # Where few labels changed, the spread of the costs says little about how many might have.
    usual = (float(costs.sum()) + PRIOR * USUAL) / (count - equal + PRIOR)
    counted = None
    if labels is not None:
        truth = np.asarray(labels)
        counted = float((before == truth).mean() - (after == truth).mean())
    return Prediction(
        images=count,
        equal=equal / count,
        drop=mean,
        interval=(max(0.0, min(mean - half, (1 - high) * usual)), max(mean + half, (1 - low) * usual)),
        counted=counted,
    )
