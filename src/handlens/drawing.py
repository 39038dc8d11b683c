"""Images with what is known about them: masks over them, boxes around their objects, a legend below."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from handlens.fonts import label_font
from handlens.names import for_picture
from handlens.palette import IGNORE, colors

Stroke = Callable[[ImageDraw.ImageDraw, int], None]  # drawn into a band of an image that begins at this row

BAND = 2048  # rows
MOST_TEXTS = 300  # of the largest objects; beside more, none can be read
OPACITY = 0.5  # of a mask: the image still shows through
WRONG, REDNESS, DARK = (214, 40, 40), 0.65, (60, 60, 60)  # of a difference
IGNORED = 0.25  # what is left of the light where pixels do not count
PAINTED_AT_ONCE = 1 << 18  # pixels: in float they fit the processor's cache
SMALLEST_LETTERS = 10  # pixels, of a legend
BACKGROUND = "background"  # the class of this name is left as the image is


def with_mask(image: NDArray[np.uint8], mask: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.uint8]:
    """A copy with every class in its color; pixels that are ignored are dark, "background" is as it was.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class indices, IGNORE where a pixel does not count.
        names: in index order.

    Raises:
        ValueError: the sizes differ, or the mask holds a class without a name.
    """
    if image.shape != (*mask.shape, 3):
        raise ValueError(f"image and mask must have the same size, got {image.shape} and {mask.shape}")
    present = {int(index) for index in np.unique(mask)} - {IGNORE}
    if present and max(present) >= len(names):
        raise ValueError(f"the mask has class {max(present)}, but there are {len(names)} names")
    share = np.zeros(IGNORE + 1, dtype=np.float32)
    share[[index for index in present if names[index] != BACKGROUND]] = OPACITY
    share[IGNORE] = 1 - IGNORED
    table = np.zeros((IGNORE + 1, 3), dtype=np.float32)
    table[: len(names)] = colors(len(names))[:IGNORE]
    painted = np.empty_like(image)
    rows = max(1, PAINTED_AT_ONCE // max(1, mask.shape[1]))
    for top in range(0, len(mask), rows):
        band = slice(top, top + rows)
        opacity = share[mask[band]][:, :, None]
        painted[band] = (image[band] * (1 - opacity) + table[mask[band]] * opacity).round()
    return painted


def with_difference(
    image: NDArray[np.uint8], truth: NDArray[np.uint8], predicted: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The image in light gray, and the pixels whose class is another in red; those that do not count are dark.

    Args:
        image: (H, W, 3) uint8 RGB. truth, predicted: (H, W) uint8 class indices.

    Raises:
        ValueError: the sizes differ.
    """
    if image.shape != (*truth.shape, 3) or truth.shape != predicted.shape:
        shapes = ", ".join(str(part.shape) for part in (image, truth, predicted))
        raise ValueError(f"image and masks must have the same size, got {shapes}")
    gray = (image // 2 + 128).mean(axis=2, dtype=np.float32).round().astype(np.uint8)
    painted = np.repeat(gray[:, :, None], 3, axis=2)
    wrong = (truth != predicted) & (truth != IGNORE)
    painted[wrong] = painted[wrong] * (1 - REDNESS) + np.array(WRONG) * REDNESS
    painted[truth == IGNORE] = DARK
    return painted


def with_boxes(
    image: NDArray[np.uint8], boxes: ArrayLike, labels: Sequence[int], texts: Sequence[str]
) -> NDArray[np.uint8]:
    """A copy with a frame around every object, small ones on top, and its text beside it where no other text is.

    Texts of large objects come first, at the corner that is free; where none is, the color stands, and a legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) left, top, right, bottom; pixels of this image.
        labels: N class indices, for the colors. texts: N; an empty one has no tag.

    Raises:
        ValueError: there are not as many labels or texts as boxes.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not len(corners) == len(labels) == len(texts):
        raise ValueError(
            f"boxes and labels must have the same length, got {len(corners)}, {len(labels)} and {len(texts)} texts"
        )
    texts = [for_picture(text) for text in texts]
    height, width = image.shape[:2]
    size = max(10, round(min(height, width) / 28))
    strokes: list[Stroke] = []
    line = max(2, size // 7)
    order = np.argsort(-(corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]), kind="stable").tolist()
    palette = colors(max(labels, default=-1) + 1).tolist()
    for place in order:
        left, top, right, bottom = (round(side) for side in np.sort(corners[place].reshape(2, 2), axis=0).ravel())
        # Dark outside, colored inside: one of the two shows on any background.
        strokes.append(_frame((left - 1, top - 1, right, bottom), outline="black"))
        inner = (left, top, max(left, right - 1), max(top, bottom - 1))
        strokes.append(_frame(inner, outline=tuple(palette[labels[place]]), width=line))
    taken: list[tuple[int, int, int, int]] = []
    for place in order[:MOST_TEXTS]:
        left, top, right, bottom = (round(side) for side in np.sort(corners[place].reshape(2, 2), axis=0).ravel())
        text = texts[place]
        if not text:
            continue
        font = label_font(text, size)
        across, down = math.ceil(font.getlength(text)) + 4, round(1.3 * size)
        roomy = right - left > across and bottom - top > 2 * down  # a text inside leaves something to see
        rows = [top - down - 1] if top > down else [top]
        rows += [top, bottom - down, bottom + 1] if roomy else [bottom + 1]
        spots = [
            (max(0, min(x, width - across)), max(0, min(y, height - down)))
            for y in rows
            for x in (left, right - across)
        ]
        free = [spot for spot in spots if not _covered((*spot, spot[0] + across, spot[1] + down), taken)]
        if not free:
            continue
        x, y = free[0]
        tag = (x, y, x + across, y + down)
        taken.append(tag)
        strokes.append(_frame(tag, fill=tuple(palette[labels[place]]), outline="black"))
        strokes.append(_text((x + 3, y + down / 2), text, font))
    return _drawn(image, strokes)


def _drawn(image: NDArray[np.uint8], strokes: Sequence[Stroke]) -> NDArray[np.uint8]:
    """A copy with the strokes on it, in bands: Pillow's own copy of a large image would take a third more memory."""
    drawn = np.empty_like(image)
    for top in range(0, len(image), BAND):
        canvas = Image.fromarray(image[top : top + BAND])
        draw = ImageDraw.Draw(canvas)
        for stroke in strokes:
            stroke(draw, top)
        drawn[top : top + BAND] = np.asarray(canvas)
    return drawn


def _frame(corners: tuple[int, int, int, int], **options: Any) -> Stroke:
    left, top, right, bottom = corners
    return lambda draw, first: draw.rectangle((left, top - first, right, bottom - first), **options)


def _text(place: tuple[float, float], text: str, font: Any) -> Stroke:
    x, y = place
    return lambda draw, first: draw.text((x, y - first), text, fill="black", font=font, anchor="lm")


def with_boxes_on_tile(
    image: NDArray[np.uint8], boxes: ArrayLike, labels: Sequence[int], texts: Sequence[str], *, side: int
) -> NDArray[np.uint8]:
    """As `with_boxes`, on a copy whose longer side has `side` pixels: lines and names are as large as they are seen."""
    small = fitted(image, side)
    scale = np.tile([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]], 2)
    return with_boxes(small, np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale, labels, texts)


def fitted(
    image: NDArray[np.uint8], side: int, resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.uint8]:
    """An image or mask, (H, W, 3) or (H, W) uint8, resized so that its longer side has `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, resampling))


def _covered(tag: tuple[int, int, int, int], others: Sequence[tuple[int, int, int, int]]) -> bool:
    x, y, end, low = tag
    return any(x < right and end > left and y < bottom and low > top for left, top, right, bottom in others)


def with_text_below(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy with one line on a white band below it, in letters as small as the width asks for.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    text = for_picture(text)
    width = image.shape[1]
    size = max(12, round(min(width, 1200) / 18))
    font = label_font(text, size)
    band = Image.new("RGB", (width, round(size * 1.6)), "white")
    draw = ImageDraw.Draw(band)
    while size > 8 and draw.textlength(text, font=font) > width - 8:
        size -= 1
        font = label_font(text, size)
    draw.text((4, 2), text, fill="black", font=font)
    return np.concatenate([image, np.asarray(band)])


def with_legend(sheet: NDArray[np.uint8], classes: Mapping[int, str], *, size: int = 16) -> NDArray[np.uint8]:
    """A sheet (H, W, 3) uint8 with the color and the name of each class in rows below it.

    Args:
        classes: index -> name, in the order to be drawn.
        size: of the letters, pixels; smaller where a name is wider than the sheet, which widens if that is not enough.
    """
    classes = {index: for_picture(name) for index, name in classes.items()}
    palette = colors(max(classes, default=-1) + 1).tolist()
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def widths(size: int) -> dict[int, int]:
        return {
            index: round(1.6 * size + measure.textlength(name, font=label_font(name, size))) + 18
            for index, name in classes.items()
        }

    needed = widths(size)
    widest = 12 + max(needed.values(), default=0)
    if widest > sheet.shape[1] and size > SMALLEST_LETTERS:
        size = max(SMALLEST_LETTERS, size * sheet.shape[1] // widest)
        needed = widths(size)
        widest = 12 + max(needed.values())
    width = max(sheet.shape[1], widest) if classes else sheet.shape[1]
    places: list[tuple[int, int]] = []
    x, row = 12, 0
    for entry in needed.values():
        if x > 12 and x + entry > width:
            x, row = 12, row + 1
        places.append((x, row))
        x += entry
    canvas = Image.new(
        "RGB", (width, sheet.shape[0] + round(1.7 * size) * (row + 1) + 8 if classes else sheet.shape[0]), "white"
    )
    canvas.paste(Image.fromarray(sheet), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for (x, row), (index, name) in zip(places, classes.items(), strict=True):
        y = sheet.shape[0] + round(1.7 * size) * row
        fill = "white" if name == BACKGROUND else tuple(palette[index])
        draw.rectangle((x, y, x + size, y + size), fill=fill, outline="black")
        draw.text((x + round(1.4 * size), y + size / 2), name, fill="black", font=label_font(name, size), anchor="lm")
    return np.asarray(canvas)
