"""Objects in an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from handlens.drawing import with_boxes, with_boxes_on_tile


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects in an image, likeliest first.

    Attributes:
        boxes: (N, 4) float32 left, top, right, bottom; pixels of the image, measured at edges, inside it.
        labels: (N,) integers, indices into `names`.
        scores: (N,) float32 in [0, 1], falling.
        names: K class names in index order.
        height, width: of the image, pixels.

    Raises:
        ValueError: shapes disagree, or a box, label or score is out of range; the first is named.
    """

    on_pixels: ClassVar[bool] = True
    boxes: NDArray[np.float32]
    labels: NDArray[np.integer]
    scores: NDArray[np.float32]
    names: tuple[str, ...]
    height: int
    width: int

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or self.labels.shape != (count,) or self.scores.shape != (count,):
            raise ValueError(
                f"boxes, labels and scores must be (N, 4), (N,) and (N,), got {self.boxes.shape}, "
                f"{self.labels.shape} and {self.scores.shape}"
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(f"labels must be class indices, got {self.labels.dtype}")
        left, top, right, bottom = self.boxes.T
        inside = (left >= 0) & (left < right) & (right <= self.width)
        inside &= (top >= 0) & (top < bottom) & (bottom <= self.height)
        for row in np.flatnonzero(~inside)[:1]:
            raise ValueError(
                f"box {row} must lie in {self.width} x {self.height} pixels, got {self.boxes[row].tolist()}"
            )
        for row in np.flatnonzero((self.labels < 0) | (self.labels >= len(self.names)))[:1]:
            raise ValueError(f"labels must be in [0, {len(self.names)}), got {self.labels[row]} in row {row}")
        for row in np.flatnonzero(~((self.scores >= 0) & (self.scores <= 1)))[:1]:
            raise ValueError(f"scores must be in [0, 1], got {self.scores[row]} in row {row}")
        if (np.diff(self.scores) > 0).any():
            raise ValueError(f"scores must fall, got {self.scores.tolist()}")

    @classmethod
    def clipped(
        cls,
        boxes: NDArray[np.floating],
        labels: NDArray[np.integer],
        scores: NDArray[np.floating],
        names: tuple[str, ...],
        *,
        height: int,
        width: int,
        threshold: float = 0.0,
    ) -> Boxes:
        """From what a detector says: cut at the image's edges, sorted by score, those of at least `threshold`.

        Padding (score 0) and boxes of which nothing lies inside the image are left out.
        """
        cut = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        real = (scores > 0) & (scores >= threshold) & (cut[:, :2] < cut[:, 2:]).all(axis=1)
        kept = order[real[order]]
        return cls(cut[kept], labels[kept], scores[kept].astype(np.float32), names, height, width)

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> Boxes:
        """Those that score `threshold` or more."""
        count = int((self.scores >= threshold).sum())
        return replace(self, boxes=self.boxes[:count], labels=self.labels[:count], scores=self.scores[:count])

    @staticmethod
    def columns(top: int) -> list[str]:
        return ["class", "score", "left", "top", "right", "bottom"]

    def rows(self, top: int) -> list[list[str]]:
        """One row per object, likeliest first; pixels."""
        return [
            [self.names[label], f"{score:.6f}", *(f"{side:.2f}" for side in box)]
            for box, label, score in zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        ]

    def caption(self) -> str:
        counts = Counter(self.names[label] for label in self.labels.tolist())
        return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing found"

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        rows = zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        return {
            "width": self.width,
            "height": self.height,
            "boxes": [
                {"class": self.names[label], "score": score, "box": [round(side, 2) for side in box]}
                for box, label, score in rows
            ],
        }

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO result file: bbox is left, top, width, height in pixels.

        Args:
            category_ids: of the classes in index order; None counts from 1.
        """
        ids = category_ids or range(1, len(self.names) + 1)
        left, top, right, bottom = self.boxes.astype(np.float64).T
        bboxes = np.stack([left, top, right - left, bottom - top], axis=1).round(3).tolist()
        return [
            {"image_id": image_id, "category_id": ids[int(label)], "bbox": bbox, "score": float(score)}
            for bbox, label, score in zip(bboxes, self.labels, self.scores, strict=True)
        ]

    def to_yolo(self) -> list[str]:
        """Lines of a YOLO file: class, center x, center y, width, height (fractions of the image), score."""
        left, top, right, bottom = (self.boxes / np.tile([self.width, self.height], 2)).T
        numbers = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, self.scores], axis=1)
        return [
            " ".join([str(label), *(f"{number:.6f}" for number in row)])
            for label, row in zip(self.labels, numbers, strict=True)
        ]

    def on_tile(self, image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        """As `draw`, on a copy whose longer side has `side` pixels."""
        return with_boxes_on_tile(image, self.boxes, self.labels.tolist(), self._texts(), side=side)

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with every box, and name and score where they can be read.

        Raises:
            ValueError: the image has another size.
        """
        if image.shape != (self.height, self.width, 3):
            raise ValueError(f"the boxes are of an image ({self.height}, {self.width}, 3), got {image.shape}")
        return with_boxes(image, self.boxes, self.labels.tolist(), self._texts())

    def _texts(self) -> list[str]:
        rows = zip(self.labels.tolist(), self.scores.tolist(), strict=True)
        return [f"{self.names[label]} {100 * score:.0f} %" for label, score in rows]
