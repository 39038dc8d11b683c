"""Whether a runtime answers as PyTorch does, in the terms of each task. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlens.runtimes.engine import Arrays
from handlens.runtimes.names import BOXES, CLASS_MAP, LABELS, PROBABILITIES, SCORES

TOLERANCE = 1e-4  # of a probability, in f32
PIXELS_EQUAL = 0.999  # share of a test set's pixels with the same class
SAME_BOX, SAME_SCORE = 0.99, 1e-3  # IoU above which, and difference of scores below which, two boxes are one
FAINT = 0.05  # boxes of lower scores are not compared: which of them are among the likeliest hangs on the last bit
LAST_BIT = 1e-5  # of a score: so near to the last of a full list, which box is the last hangs on the last bit
LIKELIEST = 0.9  # of the highest score: where all are faint, those from there on are compared
IMAGE_EQUAL = 0.95  # share of one image's pixels; below it a whole image is answered otherwise
ALIKE = 0.5  # IoU by which an app that resizes otherwise still finds an object


@dataclass(frozen=True)
class Agreement:
    """
    Attributes:
        equal: share of the labels, pixels or boxes that are the same.
        largest_difference: of a probability or of the scores of matched boxes; None for class maps.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids that differ without that excuse.
        passed: it may count as the same model.
    """

    equal: float
    largest_difference: float | None
    excused: tuple[str, ...]
    differing: tuple[str, ...]
    passed: bool


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
    largest = float(np.abs(answered - wanted).max()) if np.isfinite(answered).all() else float("inf")
    excused = tuple(ids[int(i)] for i in np.flatnonzero(other & tied))
    return Agreement(float((~other).mean()), largest, excused, differing, not differing and largest <= TOLERANCE)


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
    largest = float(np.abs(answered - wanted).max()) if np.isfinite(answered).all() else float("inf")
    return Agreement(float((~other).mean()), largest, excused, differing, not differing and largest <= TOLERANCE)


def compare_masks(
    values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float] = ()
) -> Agreement:
    """Class maps (N, H, W): PIXELS_EQUAL of all pixels the same, and IMAGE_EQUAL of each image's.

    A tie between two classes may fall either way.
    """
    same = (values[CLASS_MAP] == expected[CLASS_MAP]).reshape(len(ids), -1).mean(axis=1)
    differing = tuple(ids[int(i)] for i in np.flatnonzero(same < PIXELS_EQUAL))
    equal = float(same.mean())
    return Agreement(equal, None, (), differing, equal >= PIXELS_EQUAL and bool((same >= IMAGE_EQUAL).all()))


def compare_boxes(
    values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float] = ()
) -> Agreement:
    """Boxes (N, M, 4), scores and labels (N, M): one to one the same boxes, by label, place and score.

    A box alone counts for nothing where the other side's list is full and ends with its score: which of them had no
    place there hangs on the last bit. Where there is not one box to compare, nothing is proved.
    """
    if not all(np.isfinite(values[name]).all() for name in (BOXES, SCORES)):
        return Agreement(0.0, float("inf"), (), tuple(ids), False)
    faint = min(FAINT, LIKELIEST * float(expected[SCORES].max(initial=0)))
    differing, matched, count, largest = [], 0, 0, 0.0
    for place, id in enumerate(ids):
        ours, theirs = (_image(arrays, place, above=faint / 2) for arrays in (values, expected))
        pairs = _pairs(ours, theirs, iou=SAME_BOX)
        differences = [abs(float(ours.scores[one] - theirs.scores[other])) for one, other in pairs]
        largest = max([largest, *differences])
        good = sum(difference < SAME_SCORE for difference in differences)
        taken, wanted = {one for one, _ in pairs}, {other for _, other in pairs}
        least, other_least = (max(faint, _last(arrays, place) + LAST_BIT) for arrays in (expected, values))
        alone = sum(score >= least for index, score in enumerate(ours.scores) if index not in taken)
        alone += sum(score >= other_least for index, score in enumerate(theirs.scores) if index not in wanted)
        matched, count = matched + good, count + len(pairs) + alone
        if good < len(pairs) + alone:
            differing.append(id)
    return Agreement(matched / count if count else 0.0, largest, (), tuple(differing), bool(count) and not differing)


def changed_classes(values: Arrays, own: Arrays, *, thresholds: Sequence[float] = ()) -> float:
    return float((values[PROBABILITIES].argmax(axis=1) != own[PROBABILITIES].argmax(axis=1)).mean())


def changed_tags(values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float:
    least = np.asarray(thresholds, dtype=np.float64)
    return float(((values[PROBABILITIES] >= least) != (own[PROBABILITIES] >= least)).mean())


def changed_masks(values: Arrays, own: Arrays, *, thresholds: Sequence[float] = ()) -> float:
    return float((values[CLASS_MAP] != own[CLASS_MAP]).mean())


def changed_boxes(values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float | None:
    """Share of the boxes above the one threshold that are not found again, or come new; None where there
    are no such boxes."""
    (threshold,) = thresholds
    same = total = 0
    for place in range(len(own[SCORES])):
        ours, theirs = (_image(arrays, place, above=threshold) for arrays in (values, own))
        pairs = len(_pairs(ours, theirs, iou=ALIKE))
        same, total = same + pairs, total + len(ours.scores) + len(theirs.scores) - pairs
    return 1 - same / total if total else None


@dataclass(frozen=True)
class _Found:
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def _image(arrays: Arrays, place: int, *, above: float) -> _Found:
    kept = arrays[SCORES][place] > above
    return _Found(arrays[BOXES][place][kept], arrays[SCORES][place][kept], arrays[LABELS][place][kept])


def _last(arrays: Arrays, place: int) -> float:
    """The lowest score of a full list, whose next box had no place; 0 of one with padding."""
    return float(arrays[SCORES][place].min())


def _pairs(ours: _Found, theirs: _Found, *, iou: float) -> list[tuple[int, int]]:
    """Indices of boxes that are the same, the best overlap first, each box once."""
    low = np.maximum(ours.boxes[:, None, :2], theirs.boxes[None, :, :2])
    high = np.minimum(ours.boxes[:, None, 2:], theirs.boxes[None, :, 2:])
    inner = (high - low).clip(min=0).prod(axis=2)
    areas = [(found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1) for found in (ours, theirs)]
    union = areas[0][:, None] + areas[1][None, :] - inner
    overlap = np.where(union > 0, inner / np.where(union > 0, union, 1), 0)
    overlap[ours.labels[:, None] != theirs.labels[None, :]] = 0
    pairs = []
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        one, other = (int(index) for index in np.unravel_index(flat, overlap.shape))
        if overlap[one, other] <= iou:
            break
        pairs.append((one, other))
        overlap[one, :] = overlap[:, other] = 0
    return pairs


COMPARE: dict[str, Callable[..., Agreement]] = {
    "classify": compare_classes,
    "tag": compare_tags,
    "segment": compare_masks,
    "detect": compare_boxes,
}
CHANGED: dict[str, Callable[..., float | None]] = {
    "classify": changed_classes,
    "tag": changed_tags,
    "segment": changed_masks,
    "detect": changed_boxes,
}
