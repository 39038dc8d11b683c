"""When two runtimes give an image the same class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handlens.runtimes.agreement import TOLERANCE, Agreement, differences
from handlens.runtimes.engine import Arrays
from handlens.runtimes.names import PROBABILITIES


def compare_classes(
    values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float] = ()
) -> Agreement:
    """Probabilities (N, K): the same labels, and no probability off by more than TOLERANCE."""
    answered, wanted = values[PROBABILITIES], expected[PROBABILITIES]
    label, reference = answered.argmax(axis=1), wanted.argmax(axis=1)
    top_two = np.sort(wanted, axis=1)[:, -2:]
    tied = top_two[:, 1] - top_two[:, 0] <= 2 * TOLERANCE
    other = label != reference
    differing = tuple(ids[int(i)] for i in np.flatnonzero(other & ~tied))
    largest, mean = differences(answered, wanted)
    excused = tuple(ids[int(i)] for i in np.flatnonzero(other & tied))
    return Agreement(float((~other).mean()), largest, mean, excused, differing, not differing and largest <= TOLERANCE)


def changed_classes(values: Arrays, own: Arrays, *, thresholds: Sequence[float] = ()) -> float:
    return float((values[PROBABILITIES].argmax(axis=1) != own[PROBABILITIES].argmax(axis=1)).mean())
