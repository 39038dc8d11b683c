"""When two runtimes find the same boxes in an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.overlap import box_iou
from handlens.runtimes.agreement import Agreement
from handlens.runtimes.engine import Arrays
from handlens.runtimes.names import BOXES, LABELS, SCORES

SAME_BOX, SAME_SCORE = 0.99, 1e-3  # IoU above which, and difference of scores below which, two boxes are one
FAINT = 0.05  # boxes of lower scores are not compared: which of them are among the likeliest hangs on the last bit
LAST_BIT = 1e-5  # of a score: so near to the last of a full list, which box is the last hangs on the last bit
LIKELIEST = 0.9  # of the highest score: where all are faint, those from there on are compared
ALIKE = 0.5  # IoU by which an app that resizes otherwise still finds an object


def compare_boxes(
    values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float] = ()
) -> Agreement:
    """Boxes (N, M, 4), scores and labels (N, M): one to one the same boxes, by label, place and score.

    A box alone counts for nothing where the other side's list is full and ends with its score: which of them had no
    place there hangs on the last bit. Where there is not one box to compare, nothing is proved.
    """
    if not all(np.isfinite(values[name]).all() for name in (BOXES, SCORES)):
        return Agreement(0.0, float("inf"), float("inf"), (), tuple(ids), False)
    faint = min(FAINT, LIKELIEST * float(expected[SCORES].max(initial=0)))
    differing, matched, count = [], 0, 0
    apart: list[float] = []
    for place, id in enumerate(ids):
        ours, theirs = (_image(arrays, place, above=faint / 2) for arrays in (values, expected))
        pairs = _pairs(ours, theirs, iou=SAME_BOX)
        differences = [abs(float(ours.scores[one] - theirs.scores[other])) for one, other in pairs]
        apart += differences
        good = sum(difference < SAME_SCORE for difference in differences)
        taken, wanted = {one for one, _ in pairs}, {other for _, other in pairs}
        least, other_least = (max(faint, _last(arrays, place) + LAST_BIT) for arrays in (expected, values))
        alone = sum(score >= least for index, score in enumerate(ours.scores) if index not in taken)
        alone += sum(score >= other_least for index, score in enumerate(theirs.scores) if index not in wanted)
        matched, count = matched + good, count + len(pairs) + alone
        if good < len(pairs) + alone:
            differing.append(id)
    largest, mean = max(apart, default=0.0), sum(apart) / max(1, len(apart))
    equal = matched / count if count else 0.0
    return Agreement(equal, largest, mean, (), tuple(differing), bool(count) and not differing)


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
    overlap = box_iou(ours.boxes, theirs.boxes)
    overlap[ours.labels[:, None] != theirs.labels[None, :]] = 0
    pairs = []
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        one, other = (int(index) for index in np.unravel_index(flat, overlap.shape))
        if overlap[one, other] <= iou:
            break
        pairs.append((one, other))
        overlap[one, :] = overlap[:, other] = 0
    return pairs
