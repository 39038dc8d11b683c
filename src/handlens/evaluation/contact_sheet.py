"""Photographs on one sheet, each with its caption."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from io import BytesIO
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from handlens.fonts import label_font
from handlens.names import for_picture

INK = "#1d2733"
LINES = 6  # of a caption, at most
WRONG = (214, 40, 40)  # the frame of an image that was named wrong


def contact_sheet(
    images: Iterable[NDArray[np.uint8]],
    captions: Sequence[str],
    *,
    wrong: Sequence[bool] | None = None,
    columns: int | None = None,
    tile: int = 160,
    tile_height: int | None = None,
    lines: int = LINES,
) -> NDArray[np.uint8]:
    """Any number of images on one grid, each with its caption below.

    Args:
        images: (H, W, 3) uint8 RGB each, any size; read one at a time and never changed.
        captions: one per image; "\\n" starts a new line. A line too long for its tile goes on in the next, at a
            comma or a space, or within a word that is too long for a line: two file names may differ in their ends
            alone. A caption of more than `lines` ends in "…".
        wrong: one per image; True draws a red frame around it.
        columns: None for a sheet a little wider than high.
        tile: pixels each image is fitted into; its aspect ratio is kept.
        tile_height: pixels, where all images are wider than high; None is `tile`.
        lines: of a caption, at most.

    Returns:
        (rows, columns, 3) uint8 RGB on white.

    Raises:
        ValueError: no image, an image that is not (H, W, 3) uint8, or counts that differ.
    """
    count = len(captions)
    if count == 0:
        raise ValueError("a contact sheet needs at least one image, got no captions")
    if wrong is not None and len(wrong) != count:
        raise ValueError(f"wrong must have {count} entries, one per caption, got {len(wrong)}")
    if tile < 32 or (columns is not None and columns < 1):
        raise ValueError(f"tile must be at least 32 pixels and columns at least 1, got {tile} and {columns}")
    height = tile_height or tile
    rows = ceil(count / (columns or ceil(sqrt(1.4 * count))))
    columns = min(count, columns or ceil(count / rows))  # 12 images: 4 x 3, not 5 + 5 + 2
    gap, frame, size = max(6, tile // 16), max(3, tile // 40), min(18, max(11, tile // 12))
    line_height = round(1.4 * size)
    wrapped = [_wrapped(caption, tile, size, lines) for caption in captions]
    cell_width = tile + 2 * gap
    cell_height = height + 2 * gap + line_height * max(map(len, wrapped))
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    found = -1
    for found, image in enumerate(images):
        if found == count:
            raise ValueError(f"more images than the {count} captions")
        fitted = _fit_into(image, tile, height)
        left, top = found % columns * cell_width + gap, found // columns * cell_height + gap
        x, y = left + (tile - fitted.width) // 2, top + (height - fitted.height) // 2
        if wrong is not None and wrong[found]:
            box = (x - frame, y - frame, x + fitted.width + frame - 1, y + fitted.height + frame - 1)
            draw.rectangle(box, fill=WRONG)
        sheet.paste(fitted, (x, y))
        for number, line in enumerate(wrapped[found]):
            middle = left + tile // 2, top + height + frame + number * line_height
            draw.text(middle, line, fill=INK, font=label_font(line, size), anchor="ma")
    if found + 1 != count:
        raise ValueError(f"{count} captions, but only {found + 1} images")
    return np.asarray(sheet)


def jpeg_bytes(image: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG small enough to stand inside a page."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88, optimize=True)
    return buffer.getvalue()


def _fit_into(image: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"an image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _wrapped(caption: str, width: int, size: int, most: int) -> list[str]:
    """Its lines; what stands between two commas stays together where it fits."""

    def fits(text: str) -> bool:
        return label_font(text, size).getlength(text) <= width

    lines: list[str] = []
    for line in map(for_picture, caption.split("\n")):
        parts = re.findall(r".*?, |.+", line)
        words = [word for part in parts for word in ([part.rstrip()] if fits(part.rstrip()) else part.split())]
        words = [piece for word in words for piece in _pieces(word, width, size)]
        whole = ""
        for word in words:
            longer = f"{whole} {word}" if whole else word
            if whole and not fits(longer):
                lines.append(whole)
                longer = word
            whole = longer
        lines.append(whole)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_fitted(line, width, size) for line in lines]


def _pieces(word: str, width: int, size: int) -> list[str]:
    """The word, or as many pieces of it as it takes for each to fit."""
    word = unicodedata.normalize("NFC", word)
    font = label_font(word, size)
    pieces: list[str] = []
    while len(word) > 1 and font.getlength(word) > width and len(pieces) < LINES:
        fitting = next((end for end in range(len(word) - 1, 1, -1) if font.getlength(word[:end]) <= width), 1)
        pieces.append(word[:fitting])
        word = word[fitting:]
    return [*pieces, word]


def _fitted(line: str, width: int, size: int) -> str:
    """The line, or as much of its beginning as fits, composed (NFC): fonts have few decomposed syllables."""
    line = unicodedata.normalize("NFC", line)
    font = label_font(line + "…", size)
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line.rstrip() + "…"
