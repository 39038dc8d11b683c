"""A class for every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from handlens.fonts import label_font
from handlens.palette import colours

UNKNOWN = 255  # a pixel of which nothing is said
BACKGROUND = "background"
NO_COLOUR = (224, 224, 192)  # of UNKNOWN in palettes: as in VOC's


@dataclass(frozen=True, eq=False)
class Mask:
    """A class for every pixel.

    Attributes:
        classes: (H, W) uint8, indices into `names`, or UNKNOWN where nothing is said.
        names: K class names in index order, at most 255.
        probabilities: (H, W, K) float32 in [0, 1], or None where they were not kept.

    Raises:
        ValueError: shapes disagree, or an index or a probability is out of range.
    """

    classes: NDArray[np.uint8]
    names: tuple[str, ...]
    probabilities: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        classes, count = self.classes, len(self.names)
        if classes.ndim != 2 or classes.size == 0 or classes.dtype != np.uint8:
            raise ValueError(f"classes must be (H, W) uint8, got {classes.shape} {classes.dtype}")
        if not 1 <= count <= UNKNOWN:
            raise ValueError(f"there must be 1 to {UNKNOWN} names, got {count}")
        for value in classes[(classes >= count) & (classes != UNKNOWN)][:1]:
            raise ValueError(f"classes must be in [0, {count}) or {UNKNOWN}, got {value}")
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
        return ", ".join(f"{row['class']} {100 * row['share']:.0f} %" for row in areas[:3]) or BACKGROUND

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """The classes that are there, the largest first; shares of the whole picture."""
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

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture (H, W, 3) uint8 under the colours of its classes, and below it what each colour means.

        A class called "background" is not coloured, and neither is UNKNOWN.

        Raises:
            ValueError: the picture has another size.
        """
        if image.shape != (*self.classes.shape, 3):
            raise ValueError(f"the mask is of a picture {(*self.classes.shape, 3)}, got {image.shape}")
        height, width = self.classes.shape
        palette = _palette(len(self.names))
        clear = [index for index, name in enumerate(self.names) if name == BACKGROUND]
        coloured = ~np.isin(self.classes, [*clear, UNKNOWN])
        mixed = image.copy()
        mixed[coloured] = (image[coloured].astype(np.uint16) + palette[self.classes[coloured]]) // 2
        areas = [row for row in self.to_dict()["areas"] if row["class"] != BACKGROUND]
        size = max(12, round(min(width, 1200) / 28))
        entries = [(self.names.index(row["class"]), f"{row['class']} {100 * row['share']:.1f} %") for row in areas]
        places, bottom = _legend([text for _, text in entries], size, width)
        canvas = Image.new("RGB", (width, height + bottom), "white")
        canvas.paste(Image.fromarray(mixed), (0, 0))
        draw = ImageDraw.Draw(canvas)
        for (index, text), (x, y) in zip(entries, places, strict=True):
            top = height + y
            draw.rectangle((x, top, x + size, top + size), fill=tuple(palette[index].tolist()), outline="black")
            draw.text((x + 1.4 * size, top + size / 2), text, fill="black", font=label_font(text, size), anchor="lm")
        return np.asarray(canvas)

    def png(self) -> bytes:
        """A PNG whose numbers are the class indices and whose palette shows them: also what training reads."""
        picture = Image.fromarray(self.classes)
        picture.putpalette(_palette(len(self.names)).ravel().tolist())
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()


def _palette(count: int) -> NDArray[np.uint8]:
    """(256, 3): the fixed colours of the classes, and one for UNKNOWN."""
    palette = np.full((256, 3), NO_COLOUR, dtype=np.uint8)
    palette[:count] = colours(count)
    return palette


def _legend(texts: list[str], size: int, width: int) -> tuple[list[tuple[int, int]], int]:
    """Where each text begins with its swatch, in rows as wide as the picture, and how high all are; pixels."""
    gap, high = size // 2, round(1.5 * size)
    places, x, y = [], gap, gap
    for text in texts:
        wide = math.ceil(label_font(text, size).getlength(text) + 2.2 * size)
        if x > gap and x + wide > width:
            x, y = gap, y + high
        places.append((x, y))
        x += wide
    return places, y + high if texts else 0
