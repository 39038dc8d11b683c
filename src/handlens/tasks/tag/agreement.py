"""When two runtimes give an image the same labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handlens.runtimes.agreement import TOLERANCE, Agreement, differences
from handlens.runtimes.engine import Arrays
from handlens.runtimes.names import PROBABILITIES


def compare_tags(values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]) -> Agreement:
    """Probabilities (N, K), each class on its own: the same labels, and no probability off by more than TOLERANCE.

    A label within TOLERANCE of its threshold may fall either way.
    """
    answered, wanted = values[PROBABILITIES], expected[PROBABILITIES]
    least = np.asarray(thresholds, dtype=np.float64)
    other = (answered >= least) != (wanted >= least)
    tied = np.abs(wanted - least) <= TOLERANCE
    differing = tuple(ids[int(i)] for i in np.flatnonzero((other & ~tied).any(axis=1)))
    excused = tuple(ids[int(i)] for i in np.flatnonzero(other.any(axis=1) & ~(other & ~tied).any(axis=1)))
    largest, mean = differences(answered, wanted)
    return Agreement(float((~other).mean()), largest, mean, excused, differing, not differing and largest <= TOLERANCE)


def changed_tags(values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float | None:
    """Share of the labels that one of the two gives and the other does not; None where neither gives one.

    Not of all classes: where an image has one label of twenty, a file that gives none is right about nineteen.
    """
    least = np.asarray(thresholds, dtype=np.float64)
    theirs, ours = values[PROBABILITIES] >= least, own[PROBABILITIES] >= least
    given = int((theirs | ours).sum())
    return float((theirs != ours).sum() / given) if given else None
