"""What a model says about a picture. Frozen, checked at birth, ready for a file or a person."""

from __future__ import annotations

import colorsys
import math
from collections import Counter
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from handlens.fonts import label_font
from handlens.palette import colours

UNKNOWN = 255  # in a mask: a pixel of which nothing is said
BACKGROUND = "background"
NO_COLOUR = (224, 224, 192)  # of UNKNOWN in palettes: as in VOC's


class Result(Protocol):
    """What every kind of result can be asked for."""

    @staticmethod
    def columns(top: int) -> list[str]:
        """The header of a table of results; `top` is how many classes per picture, where that means something."""
        ...

    def rows(self, top: int) -> list[list[str]]:
        """Rows of that table; none where there is nothing to say of the picture."""
        ...

    def caption(self) -> str:
        """In a few words."""
        ...

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON."""
        ...

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the picture (H, W, 3) uint8 with the answer on it or below it."""
        ...


@dataclass(frozen=True, eq=False)
class Classes:
    """One probability per class.

    Attributes:
        probabilities: (K,) float32 in [0, 1], summing to 1.
        names: K class names in index order.

    Raises:
        ValueError: shapes disagree, or the numbers are not a distribution.
    """

    probabilities: NDArray[np.float32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        p = self.probabilities
        if p.shape != (len(self.names),):
            raise ValueError(f"probabilities must have shape ({len(self.names)},), got {p.shape}")
        total, least = float(p.sum()), float(p.min())
        if not (abs(total - 1) <= 1e-2 and least >= -1e-6):  # written so that NaN is refused too
            raise ValueError(f"probabilities must be in [0, 1] and sum to 1, got sum {total}, min {least}")

    @property
    def label(self) -> str:
        return self.names[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        return float(self.probabilities.max())

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest (name, probability), likeliest first; ties in index order."""
        order = [int(self.probabilities.argmax())] if k == 1 else np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.names[i], float(self.probabilities[i])) for i in order]

    @staticmethod
    def columns(top: int) -> list[str]:
        return ["class", "probability"] + [
            f"{name}{rank}" for rank in range(2, top + 1) for name in ("class", "probability")
        ]

    def rows(self, top: int) -> list[list[str]]:
        """One row, the likeliest class first."""
        return [[text for name, probability in self.top(top) for text in (name, f"{probability:.6f}")]]

    def caption(self) -> str:
        return f"{self.label} {100 * self.confidence:.0f} %"

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        return {
            "class": self.label,
            "probability": self.confidence,
            "top": [{"class": name, "probability": probability} for name, probability in self.top(top)],
        }

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the picture (H, W, 3) uint8 with "name 97.3 %" on a band below it, so that nothing is hidden."""
        text = f"{self.label}  {100 * self.confidence:.1f} %"
        height, width = image.shape[:2]
        size = max(12, round(min(width, 1200) / 18))
        font = label_font(text, size)
        canvas = Image.new("RGB", (width, height + round(size * 1.6)), "white")
        canvas.paste(Image.fromarray(image), (0, 0))
        draw = ImageDraw.Draw(canvas)
        while size > 8 and draw.textlength(text, font=font) > width - 8:
            size -= 1
            font = label_font(text, size)
        draw.text((4, height + 2), text, fill="black", font=font)
        return np.asarray(canvas)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects in a picture, likeliest first.

    Attributes:
        boxes: (N, 4) float32 left, top, right, bottom; pixels of the picture, measured at edges, inside it.
        labels: (N,) integers, indices into `names`.
        scores: (N,) float32 in [0, 1], falling.
        names: K class names in index order.
        height, width: of the picture, pixels.

    Raises:
        ValueError: shapes disagree, or a box, label or score is out of range; the first is named.
    """

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
        cls, boxes: NDArray[np.floating], labels: NDArray[np.integer], scores: NDArray[np.floating],
        names: tuple[str, ...], *, height: int, width: int, threshold: float = 0.0,
    ) -> Boxes:  # fmt: skip
        """From what a detector says: cut at the picture's edges, sorted by score, those of at least `threshold`.

        Padding (score 0) and boxes of which nothing lies inside the picture are left out.
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
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"

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

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Rows of a COCO result file: bbox is left, top, width, height in pixels; category ids count from 1."""
        left, top, right, bottom = self.boxes.astype(np.float64).T
        bboxes = np.stack([left, top, right - left, bottom - top], axis=1).round(3).tolist()
        return [
            {"image_id": image_id, "category_id": int(label) + 1, "bbox": bbox, "score": float(score)}
            for bbox, label, score in zip(bboxes, self.labels, self.scores, strict=True)
        ]

    def to_yolo(self) -> list[str]:
        """Lines of a YOLO file: class, centre x, centre y, width, height (fractions of the picture), score."""
        left, top, right, bottom = (self.boxes / np.tile([self.width, self.height], 2)).T
        numbers = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, self.scores], axis=1)
        return [
            " ".join([str(label), *(f"{number:.6f}" for number in row)])
            for label, row in zip(self.labels, numbers, strict=True)
        ]

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the picture (H, W, 3) uint8 with every box, its name and its score, the likeliest on top.

        Raises:
            ValueError: the picture has another size.
        """
        if image.shape != (self.height, self.width, 3):
            raise ValueError(f"the boxes are of a picture ({self.height}, {self.width}, 3), got {image.shape}")
        canvas = Image.fromarray(image)
        draw = ImageDraw.Draw(canvas)
        size = max(11, round(min(self.height, self.width) / 32))
        line = max(2, size // 7)
        for box, label, score in list(zip(self.boxes.tolist(), self.labels.tolist(), self.scores, strict=True))[::-1]:
            colour = box_colour(label)
            left, top, right, bottom = (round(side) for side in box)
            # Dark outside, coloured inside: one of the two shows on any background.
            draw.rectangle((left - 1, top - 1, right, bottom), outline="black")
            draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
            text = f"{self.names[label]} {100 * float(score):.0f} %"
            font = label_font(text, size)
            wide, high = math.ceil(draw.textlength(text, font=font)) + 6, round(size * 1.4)
            x = max(0, min(left, self.width - wide))
            y = top - high if top >= high else min(top, max(0, self.height - high))
            draw.rectangle((x, y, x + wide, y + high), fill=colour, outline="black")
            draw.text((x + 3, y + high / 2), text, fill="black", font=font, anchor="lm")
        return np.asarray(canvas)


def box_colour(label: int) -> tuple[int, int, int]:
    """A light colour per class, always the same one: steps of the golden angle around the wheel of hues."""
    red, green, blue = colorsys.hls_to_rgb(label * 0.381966 % 1, 0.7, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


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


KINDS: dict[str, type[Result]] = {"classify": Classes, "segment": Mask, "detect": Boxes}  # by task
