"""A class for every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.drawing import BACKGROUND, fitted, with_legend, with_mask
from handlens.palette import IGNORE, colors

NO_COLOR = (224, 224, 192)  # of IGNORE in palettes: as in VOC's


@dataclass(frozen=True, eq=False)
class Mask:
    """A class for every pixel.

    Attributes:
        classes: (H, W) uint8, indices into `names`, or IGNORE where nothing is said.
        names: K class names in index order, at most 255.
        probabilities: (H, W, K) float32 in [0, 1], or None where they were not kept.

    Raises:
        ValueError: shapes disagree, or an index or a probability is out of range.
    """

    on_pixels: ClassVar[bool] = True
    classes: NDArray[np.uint8]
    names: tuple[str, ...]
    probabilities: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        classes, count = self.classes, len(self.names)
        if classes.ndim != 2 or classes.size == 0 or classes.dtype != np.uint8:
            raise ValueError(f"classes must be (H, W) uint8, got {classes.shape} {classes.dtype}")
        if not 1 <= count <= IGNORE:
            raise ValueError(f"there must be 1 to {IGNORE} names, got {count}")
        for value in classes[(classes >= count) & (classes != IGNORE)][:1]:
            raise ValueError(f"classes must be in [0, {count}) or {IGNORE}, got {value}")
        if self.probabilities is not None:
            if self.probabilities.shape != (*classes.shape, count):
                raise ValueError(
                    f"probabilities must have shape {(*classes.shape, count)}, got {self.probabilities.shape}"
                )
            low, high = float(self.probabilities.min()), float(self.probabilities.max())
            if not -1e-6 <= low <= high <= 1 + 1e-2:  # also where one is not a number
                raise ValueError(f"probabilities must be in [0, 1], got {low} to {high}")

    def pixels(self) -> NDArray[np.int64]:
        """(K,) how many pixels each class has."""
        return np.bincount(self.classes.ravel(), minlength=256)[: len(self.names)]

    @staticmethod
    def columns(top: int) -> list[str]:
        return ["class", "pixels", "share"]

    def rows(self, top: int) -> list[list[str]]:
        """One row per class that is there, the largest first."""
        return [[row["class"], str(row["pixels"]), f"{row['share']:.6f}"] for row in self.to_dict()["areas"]]

    def caption(self) -> str:
        areas = [row for row in self.to_dict()["areas"] if row["class"] != BACKGROUND]
        return (
            ", ".join(f"{row['class']} {100 * row['share']:.0f} %" for row in areas[:3] if row["share"] >= 0.005)
            or BACKGROUND
        )

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """The classes that are there, the largest first; shares of the whole image."""
        height, width = self.classes.shape
        counts = self.pixels()
        order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
        return {
            "width": width,
            "height": height,
            "areas": [
                {
                    "class": self.names[index],
                    "pixels": int(counts[index]),
                    "share": int(counts[index]) / (height * width),
                }
                for index in order
            ],
        }

    def on_tile(self, image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        """As `draw`, on a copy whose longer side has `side` pixels, and without the legend: a caption names classes."""
        return fitted(with_mask(image, self.classes, self.names), side)

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3) uint8 under the colors of its classes, and below it what each color means; wider than the
        image where a name is.

        A class called "background" is left as the image is; pixels that are IGNORE are dark.

        Raises:
            ValueError: the image has another size.
        """
        if image.shape != (*self.classes.shape, 3):
            raise ValueError(f"the mask is of an image {(*self.classes.shape, 3)}, got {image.shape}")
        areas = [row for row in self.to_dict()["areas"] if row["class"] != BACKGROUND]
        entries = {self.names.index(row["class"]): f"{row['class']} {100 * row['share']:.1f} %" for row in areas}
        size = max(12, round(min(image.shape[1], 1200) / 28))
        return with_legend(with_mask(image, self.classes, self.names), entries, size=size)

    def png(self) -> bytes:
        """A PNG whose numbers are the class indices and whose palette shows them: also what training reads."""
        image = Image.fromarray(self.classes)
        image.putpalette(_palette(len(self.names)).ravel().tolist())
        buffer = BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


def _palette(count: int) -> NDArray[np.uint8]:
    """(256, 3): the fixed colors of the classes, and one for IGNORE."""
    palette = np.full((256, 3), NO_COLOR, dtype=np.uint8)
    palette[:count] = colors(count)
    return palette
