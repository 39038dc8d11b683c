"""How good a detector is: COCO's mean average precision, and precision and recall at one score threshold."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.boxes import Box
from handlens.data.labels.overlap import box_iou, share_inside
from handlens.results import Boxes

# COCO's evaluator leaves an object out of the count where its area lies outside the range that is asked for, and
# "all" ends at 1e10 square pixels. It has no other mark for objects that may be found but need not be.
DIFFICULT_AREA = 1e11
SAME = 0.5  # IoU from which a box and an object are the same, at the operating point


def detection_metrics(
    predictions: Sequence[Boxes],
    truths: Sequence[Sequence[Box]],
    class_names: Sequence[str],
    *,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Everything that is said about a detector on labeled images, ready for JSON.

    Args:
        predictions: per image, all boxes down to the smallest score; the hundred likeliest count.
        truths: per image, the objects in pixels of the same image; () where it holds none. A crowd is neither
            expected nor are boxes in it wrong; a difficult object likewise.
        class_names: K names in index order.
        threshold: score of the operating point; None leaves it out.

    Returns:
        images, objects: how many; objects without crowds and difficult ones.
        map, map50, map75: mean over the classes of the average precision; map over IoU 0.50 to 0.95 in steps of 0.05.
        map_small, map_medium, map_large: objects up to 32 x 32 pixels, up to 96 x 96, and above, by their area.
        per_class: {class, objects, ap, ap50, precision}: precision is the curve at IoU 0.5, at recall 0, 0.01 ... 1.
        operating_point: as `operating_point` returns it; None without a threshold.
        A mean over nothing is None and never 0: a class without objects, a size that no object has.

    Raises:
        ValueError: another number of predictions than of truths, no image, or other class names than predicted.

    Source: Lin et al. 2014, arXiv:1405.0312; computed by faster-coco-eval, which gives pycocotools' numbers.
    """
    _check(predictions, truths, class_names)
    evaluated = evaluate_coco(predictions, truths, len(class_names))
    expected = Counter(box.label for boxes in truths for box in boxes if is_expected(box))
    per_class = []
    for index, name in enumerate(class_names):
        curves = evaluated["precision"][:, :, index, 0, -1]  # (10 IoUs, 101 recalls), -1 without objects
        known = bool((curves > -1).any())
        per_class.append(
            {
                "class": name,
                "objects": expected[index],
                "ap": float(curves.mean()) if known else None,
                "ap50": float(curves[0].mean()) if known else None,
                "precision": [round(float(value), 4) for value in curves[0]] if known else None,
            }
        )
    names = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    return {
        "images": len(truths),
        "objects": expected.total(),
        **{
            name: None if value < 0 else float(value) for name, value in zip(names, evaluated["stats"][:6], strict=True)
        },
        "per_class": per_class,
        "operating_point": None if threshold is None else operating_point(predictions, truths, class_names, threshold),
    }


def evaluate_coco(predictions: Sequence[Boxes], truths: Sequence[Sequence[Box]], classes: int) -> dict[str, Any]:
    """The standard evaluator's "stats" (12,) and "precision" (10, 101, K, 4, 3) of these boxes."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth, results = coco_json(predictions, truths, classes)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        reference = COCO(truth)
        evaluator = COCOeval_faster(reference, reference.loadRes(results), "bbox", print_function=lambda *_: None)
        evaluator.run()
    return {"stats": np.asarray(evaluator.stats), "precision": evaluator.eval["precision"]}


def coco_json(
    predictions: Sequence[Boxes], truths: Sequence[Sequence[Box]], classes: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects and boxes as COCO's evaluators take them; images and classes count from 1."""
    annotations: list[dict[str, Any]] = []
    for image, boxes in enumerate(truths, start=1):
        for box in boxes:
            width, height = box.right - box.left, box.bottom - box.top
            area = width * height if box.area is None else box.area
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": box.label + 1,
                    "bbox": [box.left, box.top, width, height],
                    "area": DIFFICULT_AREA if box.difficult else area,
                    "iscrowd": int(box.crowd),
                }
            )
    truth = {
        "info": {},
        "images": [{"id": number} for number in range(1, len(truths) + 1)],
        "categories": [{"id": number, "name": str(number)} for number in range(1, classes + 1)],
        "annotations": annotations,
    }
    return truth, [row for image, boxes in enumerate(predictions, start=1) for row in boxes.to_coco(image)]


def operating_point(
    predictions: Sequence[Boxes], truths: Sequence[Sequence[Box]], class_names: Sequence[str], threshold: float
) -> dict[str, Any]:
    """Precision and recall of the boxes that score at least `threshold`.

    Boxes are taken by falling score; each is right if an object of its class that no other box has yet overlaps it by
    IoU 0.5 or more, and then takes the one it overlaps most.

    Returns:
        threshold; count: boxes; right; objects; precision, recall, f1; per_class: {class, count, right, objects,
        precision, recall, f1}. Quotients whose denominator is 0 are None.

    Raises:
        ValueError: as `detection_metrics`.
    """
    _check(predictions, truths, class_names)
    matched = [match_boxes(boxes, truth) for boxes, truth in zip(predictions, truths, strict=True)]
    chosen = [found.counts & (boxes.scores >= threshold) for boxes, found in zip(predictions, matched, strict=True)]
    answered = np.concatenate([boxes.labels[use] for boxes, use in zip(predictions, chosen, strict=True)])
    right = np.concatenate([found.right[use] for found, use in zip(matched, chosen, strict=True)])
    expected = np.array([box.label for truth in truths for box in truth if is_expected(box)], dtype=int)
    everything = _row(len(answered), int(right.sum()), len(expected))
    per_class = []
    for label, name in enumerate(class_names):
        own = answered == label
        per_class.append({"class": name} | _row(int(own.sum()), int(right[own].sum()), int((expected == label).sum())))
    return {"threshold": threshold, **everything, "per_class": per_class}


def best_threshold(predictions: Sequence[Boxes], truths: Sequence[Sequence[Box]]) -> float | None:
    """The score threshold with the best F1 over all boxes: for the validation images.

    Returns:
        halfway between the last score that is taken and the next (or 0), so that an engine that rounds otherwise takes
        the same boxes; the highest of equally good ones. None where no box is right: then none is better than another.

    Raises:
        ValueError: another number of predictions than of truths, or no image.
    """
    matched = [match_boxes(boxes, truth) for boxes, truth in zip(predictions, truths, strict=True)]
    scores = np.concatenate([boxes.scores[found.counts] for boxes, found in zip(predictions, matched, strict=True)])
    right = np.concatenate([found.right[found.counts] for found in matched])
    if not right.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order].astype(float), right[order]
    expected = sum(is_expected(box) for truth in truths for box in truth)
    f1 = 2 * right.cumsum() / (np.arange(1, len(right) + 1) + expected)
    following = np.append(scores[1:], 0.0)
    f1[scores == following] = -1  # no threshold lies between equal scores
    best = int(f1.argmax())
    return float((scores[best] + following[best]) / 2)


class Matched(NamedTuple):
    """Who is who in one image.

    right: (N,) bool, the box is an object that no better one has taken.
    counts: (N,) bool, False for boxes in a crowd or on a difficult object, which are neither right nor wrong.
    found: (m,) float, the score of the box that took the object, 0 where none did.
    """

    right: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    found: NDArray[np.float64]


def match_boxes(predicted: Boxes, truth: Sequence[Box]) -> Matched:
    """Match boxes to objects greedily by score: same class, IoU of 0.5 or more. A score is no threshold here: what a
    box takes depends on the better ones alone.
    """
    right, counts = np.zeros(len(predicted), bool), np.ones(len(predicted), bool)
    found = np.zeros(len(truth))
    if not truth or not len(predicted):
        return Matched(right, counts, found)
    corners = np.array([[box.left, box.top, box.right, box.bottom] for box in truth])
    crowd, expected = np.array([box.crowd for box in truth]), np.array([is_expected(box) for box in truth])
    boxes = predicted.boxes.astype(float)
    overlap = np.where(crowd, share_inside(boxes, corners), box_iou(boxes, corners))  # crowds as COCO has them
    overlap[predicted.labels[:, None] != np.array([box.label for box in truth])] = 0
    for row, score in enumerate(predicted.scores):
        free = np.where(expected & (found == 0), overlap[row], 0)
        best = int(free.argmax())
        if free[best] >= SAME:
            right[row], found[best] = True, score
        elif (overlap[row, ~expected] >= SAME).any():
            counts[row] = False
    return Matched(right, counts, found)


def image_f1(predicted: Boxes, truth: Sequence[Box]) -> float:
    """Of one image, matched as `match_boxes` does; 1 where nothing is expected and nothing is found."""
    found = match_boxes(predicted, truth)
    right, answered = int(found.right.sum()), int(found.counts.sum())
    expected = sum(map(is_expected, truth))
    return 2 * right / (answered + expected) if answered + expected else 1.0


def is_expected(box: Box) -> bool:
    return not box.crowd and not box.difficult


def _row(count: int, right: int, objects: int) -> dict[str, Any]:
    return {
        "count": count,
        "right": right,
        "objects": objects,
        "precision": right / count if count else None,
        "recall": right / objects if objects else None,
        "f1": 2 * right / (count + objects) if count + objects else None,
    }


def _check(predictions: Sequence[Boxes], truths: Sequence[Sequence[Box]], class_names: Sequence[str]) -> None:
    if len(predictions) != len(truths) or not truths:
        raise ValueError(f"predictions and truths need one entry per image, got {len(predictions)} and {len(truths)}")
    for image, (boxes, truth) in enumerate(zip(predictions, truths, strict=True)):
        if boxes.names != tuple(class_names):
            raise ValueError(f"image {image}: predicted classes {boxes.names} are not {tuple(class_names)}")
        for box in truth:
            if not 0 <= box.label < len(class_names):
                raise ValueError(f"image {image}: label {box.label} is outside {len(class_names)} classes")
