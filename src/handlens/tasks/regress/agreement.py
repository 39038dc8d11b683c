"""When two runtimes give an image the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handlens.runtimes.agreement import TOLERANCE, Agreement
from handlens.runtimes.engine import Arrays
from handlens.tasks.regress.names import VALUES

CHANGED = 0.01  # of the spread of a number over the images, from which an app's resize has changed it; our choice


def compare_values(values: Arrays, expected: Arrays, ids: Sequence[str]) -> Agreement:
    """Values (N, V): none off by more than TOLERANCE of its spread over the images.

    The largest difference is in units of that spread.
    """
    if not np.isfinite(values[VALUES]).all():
        return Agreement(0.0, float("inf"), float("inf"), (), tuple(ids), False)
    apart = np.abs(values[VALUES] - expected[VALUES]) / _spread(expected[VALUES])
    same = (apart <= TOLERANCE).all(axis=1)
    differing = tuple(ids[int(i)] for i in np.flatnonzero(~same))
    worst = apart.max(axis=1)
    return Agreement(float(same.mean()), float(worst.max()), float(worst.mean()), (), differing, not differing)


def changed_values(values: Arrays, own: Arrays) -> float:
    """Share of the numbers that lie further apart than CHANGED of their spread."""
    return float((np.abs(values[VALUES] - own[VALUES]) > CHANGED * _spread(own[VALUES])).mean())


def _spread(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(V,) standard deviation over the images; of one image, or of equal ones, the size of the number itself."""
    spread = values.astype(np.float64).std(axis=0)
    size = np.abs(values).max(axis=0).astype(np.float64)
    return np.where(spread > 1e-6 * size, spread, np.maximum(size, 1e-12))
