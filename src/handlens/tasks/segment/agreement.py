"""When two runtimes give the pixels of an image the same classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handlens.runtimes.agreement import Agreement
from handlens.runtimes.engine import Arrays
from handlens.runtimes.names import CLASS_MAP

PIXELS_EQUAL = 0.999  # share of a test set's pixels with the same class

IMAGE_EQUAL = 0.95  # share of one image's pixels; below it a whole image is answered otherwise


def compare_masks(
    values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float] = ()
) -> Agreement:
    """Class maps (N, H, W): PIXELS_EQUAL of all pixels the same, and IMAGE_EQUAL of each image's.

    A tie between two classes may fall either way.
    """
    same = (values[CLASS_MAP] == expected[CLASS_MAP]).reshape(len(ids), -1).mean(axis=1)
    differing = tuple(ids[int(i)] for i in np.flatnonzero(same < PIXELS_EQUAL))
    equal = float(same.mean())
    return Agreement(equal, None, None, (), differing, equal >= PIXELS_EQUAL and bool((same >= IMAGE_EQUAL).all()))


def changed_masks(values: Arrays, own: Arrays, *, thresholds: Sequence[float] = ()) -> float | None:
    """Share of the pixels that are of another class, among those that are not of the most common class on both sides;
    None where all are.

    Not of all pixels: where objects cover a twentieth, a file that finds none is right about the rest.
    """
    theirs, ours = values[CLASS_MAP], own[CLASS_MAP]
    classes, counts = np.unique(ours, return_counts=True)
    common = classes[counts.argmax()]
    found = int(((theirs != common) | (ours != common)).sum())
    return float((theirs != ours).sum() / found) if found else None
