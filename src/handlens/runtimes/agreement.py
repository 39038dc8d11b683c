"""Whether a runtime answers as PyTorch does: what a task's comparison comes to. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4  # of a probability, in f32
ROUNDED = 0.1  # of a probability, between processors that round the same int8 file otherwise; our choice


@dataclass(frozen=True)
class Agreement:
    """
    Attributes:
        equal: share of the labels, pixels or boxes that are the same.
        largest_difference: of a probability or of the scores of matched boxes; None for class maps.
        mean_difference: of the images' largest differences; of boxes, of all those that are the same.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids that differ without that excuse.
        passed: it may count as the same model.
    """

    equal: float
    largest_difference: float | None
    mean_difference: float | None
    excused: tuple[str, ...]
    differing: tuple[str, ...]
    passed: bool


def differences(values: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    """The largest of (N, K) numbers, and the mean of each row's largest; infinite where they are not numbers."""
    if not np.isfinite(values).all():
        return float("inf"), float("inf")
    worst = np.abs(values - expected).max(axis=1)
    return float(worst.max()), float(worst.mean())
