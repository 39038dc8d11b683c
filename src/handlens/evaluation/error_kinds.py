"""What is wrong with a detector's boxes, by kind.

Source: Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", arXiv:2008.08115, section
2.1; the order in which kinds are tried is that of the authors' code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from handlens.data.labels.boxes import Box
from handlens.data.labels.overlap import box_iou
from handlens.evaluation.detection import SAME, is_expected, match_boxes
from handlens.results import Boxes

BACKGROUND = 0.1  # IoU up to which a box is on no object: section 2.1
# What each kind means; in the order of the page.
KINDS = {
    "missed": "an object that no box comes near",
    "wrong_class": "a box on an object of another class",
    "poorly_placed": "a box near an object of its class, with an IoU below 0.5",
    "both": "a box near an object of another class, with an IoU below 0.5",
    "duplicate": "a further box on an object that is found",
    "background": "a box where there is no object",
}


def error_kinds(predictions: Sequence[Boxes], truths: Sequence[Sequence[Box]], threshold: float) -> dict[str, int]:
    """How many errors of each of KINDS there are among the boxes that score at least `threshold`.

    A box that is wrong is of one kind. An object that is not found counts as missed unless a box of kind "wrong_class"
    or "poorly_placed" is on it: mending that box would find it. Boxes in crowds and on difficult objects do not count.

    Args:
        predictions, truths: as of `detection.detection_metrics`.

    Raises:
        ValueError: another number of predictions than of truths.
    """
    found: Counter[str] = Counter()
    for boxes, truth in zip(predictions, truths, strict=True):
        found.update(_of_image(boxes.above(threshold), truth))
    return {kind: found[kind] for kind in KINDS}


def _of_image(boxes: Boxes, truth: Sequence[Box]) -> Counter[str]:
    matched = match_boxes(boxes, truth)
    place = [number for number, box in enumerate(truth) if is_expected(box)]
    objects = [truth[number] for number in place]
    taken = matched.found[place] > 0  # (m,)
    wrong = np.flatnonzero(matched.counts & ~matched.right)
    kinds: Counter[str] = Counter()
    covered = np.zeros(len(objects), dtype=bool)  # by a box that is one mistake away from the object
    if objects and len(wrong):
        corners = np.array([[box.left, box.top, box.right, box.bottom] for box in objects])
        overlap = box_iou(boxes.boxes[wrong].astype(float), corners)  # (w, m)
        same = boxes.labels[wrong][:, None] == np.array([box.label for box in objects])
        for row, own in zip(overlap, same, strict=True):
            of_class, of_others = np.where(own, row, 0), np.where(own, 0, row)
            if BACKGROUND <= of_class.max() <= SAME:
                kinds["poorly_placed"] += 1
                covered[of_class.argmax()] = True
            elif of_others.max() >= SAME:
                kinds["wrong_class"] += 1
                covered[of_others.argmax()] = True
            elif np.where(taken, of_class, 0).max() >= SAME:
                kinds["duplicate"] += 1
            else:
                kinds["background" if row.max() <= BACKGROUND else "both"] += 1
    else:
        kinds["background"] += len(wrong)
    kinds["missed"] += int((~taken & ~covered).sum())
    return kinds
