"""The metrics of `evaluate`, computed from how often each image counts: for bootstrap samples of the images.

Every function here returns a `paired.Resampled`: (B, N) multiplicities -> metric (B,) and metric of each class (B, K).
With every multiplicity 1 it gives the number that the metric itself gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handlens.evaluation.paired import Floats, Resampled

RECALLS = np.linspace(0, 1, 101)  # of COCO's average precision
MOST_BOXES = 100  # of a class in an image that COCO counts
COCO_IOU = 0.5
LARGEST = 1e10  # square pixels; COCO leaves larger objects out (detection.DIFFICULT_AREA)


def accuracy(right: NDArray[np.bool_], labels: NDArray[np.int64], classes: int) -> Resampled:
    """Share of the images that are right; of a class, its recall.

    Args:
        right: (N,). labels: (N,) true classes.
    """
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)

    def resampled(weights: Floats) -> tuple[Floats, Floats]:
        of_class = np.full((len(weights), classes), np.nan)
        counts = np.add.reduceat(weights[:, order], starts, axis=1)
        found = np.add.reduceat((weights * right)[:, order], starts, axis=1)
        of_class[:, present] = _ratio(found, counts)
        return weights @ right / weights.sum(axis=1), of_class

    return resampled


def mean_iou(counts: NDArray[np.int64]) -> Resampled:
    """Mean IoU over the classes that a sample has in truth or prediction; of a class, its IoU.

    Args:
        counts: (N, 3, K) pixels of each image: correct, in the truth, predicted.
    """
    images, _, classes = counts.shape
    flat = counts.reshape(images, 3 * classes).astype(np.float64)

    def resampled(weights: Floats) -> tuple[Floats, Floats]:
        correct, truth, predicted = (weights @ flat).reshape(len(weights), 3, classes).swapaxes(0, 1)
        return _with_mean(_ratio(correct, truth + predicted - correct))

    return resampled


def mean_average_precision(probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> Resampled:
    """Mean over classes of `tags.average_precision`.

    Args:
        probabilities, truth: (N, K).
    """
    sorted_classes = []
    for scores, there in zip(probabilities.T, truth.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # equal scores are taken together
        sorted_classes.append((order, there[order], last))

    def resampled(weights: Floats) -> tuple[Floats, Floats]:
        columns = []
        for order, there, last in sorted_classes:
            taken = weights[:, order]
            right = np.cumsum(taken * there, axis=1)[:, last]
            precision = np.nan_to_num(_ratio(right, np.cumsum(taken, axis=1)[:, last]))
            recall = _ratio(right, right[:, -1:])
            columns.append((np.diff(recall, axis=1, prepend=0.0) * precision).sum(axis=1))
        return _with_mean(np.stack(columns, axis=1))

    return resampled


def mean_r2(predicted: Floats, truth: Floats) -> Resampled:
    """Mean over the numbers of R²; nan where one does not vary in a sample. Of a number, its mean absolute error.

    Args:
        predicted, truth: (N, V), in the labels' unit.
    """
    square, absolute = (predicted - truth) ** 2, np.abs(predicted - truth)
    centered = truth - truth.mean(axis=0)
    least = 1e-12 * (centered**2).mean(axis=0)  # below it, rounding

    def resampled(weights: Floats) -> tuple[Floats, Floats]:
        share = weights / weights.sum(axis=1, keepdims=True)
        variance = share @ centered**2 - (share @ centered) ** 2
        shares = 1 - _ratio(share @ square, np.where(variance > least, variance, 0.0))
        return shares.mean(axis=1), share @ absolute

    return resampled


class ClassBoxes(NamedTuple):
    """All boxes of one class that count for COCO's average precision at IoU 0.5, by falling score.

    image: (D,) place of the image. right: (D,) bool. objects: (N,) how many are expected in each image.
    """

    image: NDArray[np.int64]
    right: NDArray[np.bool_]
    objects: Floats


def mean_average_precision_50(classes: Sequence[ClassBoxes]) -> Resampled:
    """COCO's mAP at IoU 0.5; of a class, its average precision.

    Boxes are matched within their image, so that a sample only counts them anew. An image that is drawn twice counts
    as two images with the same boxes.

    Source: accumulate() of pycocotools.
    """

    def resampled(weights: Floats) -> tuple[Floats, Floats]:
        return _with_mean(np.stack([_average_precision_50(boxes, weights) for boxes in classes], axis=1))

    return resampled


def _average_precision_50(boxes: ClassBoxes, weights: Floats) -> Floats:
    objects = weights @ boxes.objects
    found = np.where(objects > 0, 0.0, np.nan)
    if not len(boxes.image):
        return found
    taken = weights[:, boxes.image]
    right = np.cumsum(taken * boxes.right, axis=1)
    precision = right / (np.cumsum(taken, axis=1) + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
    recall = _ratio(right, objects[:, None])
    for row in np.flatnonzero(objects > 0):
        place = np.searchsorted(recall[row], RECALLS, side="left")
        reached = place < len(boxes.image)
        found[row] = best[row, place[reached]].sum() / len(RECALLS)
    return found


def coco_classes(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[ClassBoxes]:
    """Match boxes to objects as COCO's evaluator does at IoU 0.5, for objects of every size.

    Args:
        truth, results: as `detection.coco_json` makes them; images and classes count from 1.

    Source: evaluateImg() of pycocotools.
    """
    images, classes = len(truth["images"]), len(truth["categories"])
    there: dict[tuple[int, int], list[dict[str, Any]]] = {}
    answers: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for rows, into in ((truth["annotations"], there), (results, answers)):
        for row in rows:
            into.setdefault((row["category_id"], row["image_id"]), []).append(row)
    found = []
    for category in range(1, classes + 1):
        objects = np.zeros(images)
        scores: list[float] = []
        places: list[int] = []
        rights: list[bool] = []
        for image in range(1, images + 1):
            expected = there.get((category, image), [])
            objects[image - 1] = sum(not _ignored(row) for row in expected)
            boxes = sorted(answers.get((category, image), []), key=lambda row: -row["score"])[:MOST_BOXES]
            for row, right in zip(boxes, _matched(boxes, expected), strict=True):
                if right is not None:
                    scores.append(row["score"])
                    places.append(image - 1)
                    rights.append(right)
        order = np.argsort(-np.array(scores), kind="stable")
        found.append(ClassBoxes(np.array(places, dtype=np.int64)[order], np.array(rights, dtype=bool)[order], objects))
    return found


def _matched(boxes: Sequence[dict[str, Any]], objects: Sequence[dict[str, Any]]) -> list[bool | None]:
    """Of each box whether it is right; None of one that lies on an ignored object and does not count."""
    objects = sorted(objects, key=_ignored)  # COCO takes an expected object before an ignored one
    if not boxes or not objects:
        return [False] * len(boxes)
    overlaps = _coco_iou(boxes, objects)
    ignored, crowd = [_ignored(row) for row in objects], [bool(row["iscrowd"]) for row in objects]
    taken: set[int] = set()
    found: list[bool | None] = []
    for overlap in overlaps:
        best, chosen = COCO_IOU, None
        for place, share in enumerate(overlap.tolist()):
            if place in taken and not crowd[place]:
                continue
            if chosen is not None and not ignored[chosen] and ignored[place]:
                break
            if share >= best:
                best, chosen = share, place
        if chosen is None:
            found.append(False)
        else:
            taken.add(chosen)
            found.append(None if ignored[chosen] else True)
    return found


def _coco_iou(boxes: Sequence[dict[str, Any]], objects: Sequence[dict[str, Any]]) -> Floats:
    """(boxes, objects); of a crowd the share of the box that lies in it."""
    ours, theirs = (np.array([row["bbox"] for row in rows], dtype=np.float64) for rows in (boxes, objects))
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, :2] + ours[:, None, 2:], theirs[None, :, :2] + theirs[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    area = ours[:, 2:].prod(axis=1)[:, None]
    crowd = np.array([bool(row["iscrowd"]) for row in objects])
    return np.asarray(both / np.where(crowd, area, area + theirs[:, 2:].prod(axis=1) - both))


def _ignored(row: dict[str, Any]) -> bool:
    return bool(row["iscrowd"]) or row["area"] > LARGEST


def _ratio(part: Floats, whole: Floats) -> Floats:
    """nan where the denominator is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole != 0)


def _with_mean(of_class: Floats) -> tuple[Floats, Floats]:
    """The mean over the classes that are there, and the classes."""
    known = ~np.isnan(of_class)
    return _ratio(np.where(known, of_class, 0.0).sum(axis=1), known.sum(axis=1).astype(float)), of_class
