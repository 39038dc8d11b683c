"""How good a segmenter is, by counts over pixels: never a mean over batches or images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from handlens.palette import IGNORE

MATRIX_CLASSES = 100  # as in metrics.py
BOUNDARY_WIDTH = 0.02  # of the image's diagonal: Cheng et al. 2021, section 5

Mask = NDArray[np.uint8]


class PixelCounts:
    """What is counted over images, one after another, in memory that does not grow with them.

    Args:
        class_names: K names in index order.
        boundary_width: how far from a contour a pixel may lie to count as boundary, in diagonals of its image.
    """

    def __init__(self, class_names: Sequence[str], *, boundary_width: float = BOUNDARY_WIDTH) -> None:
        classes = len(class_names)
        if not 1 <= classes <= IGNORE:
            raise ValueError(f"there must be 1 to {IGNORE} classes, got {classes}")
        if not 0 < boundary_width < 1:
            raise ValueError(f"boundary_width must be in (0, 1), got {boundary_width}")
        self.class_names = tuple(class_names)
        self.boundary_width = boundary_width
        self.confusion = np.zeros((classes, classes), dtype=np.int64)  # rows are the truth
        self.boundary_overlap = np.zeros(classes, dtype=np.int64)
        self.boundary_union = np.zeros(classes, dtype=np.int64)
        self.images = self.ignored = 0

    def add(self, predicted: Mask, truth: Mask) -> None:
        """Count one image.

        Args:
            predicted: (H, W) uint8 class indices.
            truth: (H, W) uint8 class indices, or IGNORE where nothing is counted.

        Raises:
            ValueError: sizes or types disagree, or an index has no class.
        """
        classes = len(self.class_names)
        _check(predicted, truth, classes)
        known = truth != IGNORE
        pairs = truth[known].astype(np.intp) * classes + predicted[known]
        self.confusion += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        distance = max(1, round(self.boundary_width * float(np.hypot(*truth.shape))))
        true_edge = boundary(truth, distance) & known
        # Where nothing is known the answer cannot be wrong, so it has no contour there either.
        edge = boundary(np.where(known, predicted, IGNORE).astype(np.uint8), distance) & known
        in_truth, in_answer, both = (
            np.bincount(indices, minlength=classes)
            for indices in (truth[true_edge], predicted[edge], truth[true_edge & edge & (truth == predicted)])
        )
        self.boundary_overlap += both
        self.boundary_union += in_truth + in_answer - both
        self.images += 1
        self.ignored += int(known.size - known.sum())

    def metrics(self) -> dict[str, Any]:
        """As `segmentation_metrics` returns it.

        Raises:
            ValueError: nothing was counted.
        """
        pixels = int(self.confusion.sum())
        if pixels == 0:
            raise ValueError(f"no pixel to count in {self.images} images: all are ignored")
        in_truth, predicted, correct = self.confusion.sum(axis=1), self.confusion.sum(axis=0), self.confusion.diagonal()
        rows = [
            {
                "class": name,
                "pixels": int(in_truth[index]),
                "share": int(in_truth[index]) / pixels,
                "predicted_share": int(predicted[index]) / pixels,
                "iou": _share(correct[index], in_truth[index] + predicted[index] - correct[index]),
                "recall": _share(correct[index], in_truth[index]),
                "precision": _share(correct[index], predicted[index]),
                "boundary_iou": _share(self.boundary_overlap[index], self.boundary_union[index]),
            }
            for index, name in enumerate(self.class_names)
        ]
        commonest = int(in_truth.argmax())
        return {
            "images": self.images,
            "pixels": pixels,
            "ignored": self.ignored,
            "miou": _mean(rows, "iou"),
            "pixel_accuracy": int(correct.sum()) / pixels,
            "mean_accuracy": _mean(rows, "recall"),
            "boundary_iou": _mean(rows, "boundary_iou"),
            "boundary_width": self.boundary_width,
            "majority_baseline": {"class": self.class_names[commonest], "share": int(in_truth[commonest]) / pixels},
            "per_class": rows,
            "confusion": self.confusion.tolist() if len(self.class_names) <= MATRIX_CLASSES else None,
        }


def segmentation_metrics(pairs: Iterable[tuple[Mask, Mask]], class_names: Sequence[str]) -> dict[str, Any]:
    """Everything that is said about a segmenter on labeled images, ready for JSON.

    Args:
        pairs: per image, (predicted, truth) as `PixelCounts.add` takes them; read one at a time.
        class_names: K names in index order.

    Returns:
        images, pixels, ignored: how many; pixels without the ignored ones.
        miou: mean of the iou that are not None.
        pixel_accuracy: share of right pixels; mean_accuracy: mean recall of the classes that have pixels here.
        boundary_iou, boundary_width: mean of the classes' boundary IoU, and how wide a boundary is, in diagonals.
        majority_baseline: {class, share}: the pixel accuracy of always answering the commonest class.
        per_class: {class, pixels, share, predicted_share, iou, recall, precision, boundary_iou}: shares of all
            pixels. A quotient whose denominator is 0 is None and never 0: iou of a class that is neither there
            nor answered.
        confusion: K x K counts of pixels, rows are the truth; None above MATRIX_CLASSES.

    Raises:
        ValueError: as `PixelCounts.add`, or there is no pixel to count.

    Source: boundary IoU is Cheng et al. 2021, arXiv:2103.16562: the IoU of the parts of both masks that lie within a
    distance of their own contours. The image's edge is a contour, the edge of an ignored region is none (our choice).
    """
    counts = PixelCounts(class_names)
    for predicted, truth in pairs:
        counts.add(predicted, truth)
    return counts.metrics()


def boundary(mask: Mask, distance: int) -> NDArray[np.bool_]:
    """Where a pixel of another class, or the outside of the image, lies within `distance` pixels.

    Args:
        mask: (H, W) uint8 class indices, or IGNORE, which is next to nothing.
        distance: pixels, diagonal steps counting as one, as in the authors' code.

    Returns:
        (H, W); meaningless where the mask is IGNORE.
    """
    window = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    # A window with one class only has equal extremes. The outside is above every class.
    lowest = cv2.erode(mask, window, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORE)
    without_ignored = np.where(mask == IGNORE, 0, mask).astype(np.uint8)
    highest = cv2.dilate(without_ignored, window, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORE)
    return np.asarray(lowest < highest)


def _check(predicted: Mask, truth: Mask, classes: int) -> None:
    for name, mask in (("predicted", predicted), ("truth", truth)):
        if mask.ndim != 2 or mask.size == 0 or mask.dtype != np.uint8:
            raise ValueError(f"{name} must be (H, W) uint8, got {mask.shape} {mask.dtype}")
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted and truth must have the same size, got {predicted.shape} and {truth.shape}")
    if predicted.max() >= classes:
        raise ValueError(f"predicted must be in [0, {classes}), got {predicted.max()}")
    wrong = truth[(truth >= classes) & (truth != IGNORE)]
    if wrong.size:
        raise ValueError(f"truth must be in [0, {classes}) or {IGNORE}, got {wrong[0]}")


def _share(part: np.int64, whole: np.int64) -> float | None:
    return int(part) / int(whole) if whole else None


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    defined = [row[key] for row in rows if row[key] is not None]
    return sum(defined) / len(defined) if defined else None
