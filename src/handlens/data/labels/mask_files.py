"""Masks: one class index per pixel, from the files that people and tools write.

A mask holds numbers, not colors, so it never goes through `decode`: no value is interpolated, scaled or converted on
the way, and every number or color is looked up in the data set's coding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.data.budget import BUDGET, MOST
from handlens.data.decode import BAD_DATA
from handlens.data.image_format import HEAD_BYTES, true_format
from handlens.errors import InputError
from handlens.palette import IGNORE
from handlens.reading.files import UnreadableFileError, read_bytes

COST = 14  # bytes per pixel: as it is stored, as numbers, and as indices
NUMBER_MODES = ("1", "L", "P", "I;16", "I;16L", "I;16B", "I")
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """How the pixels of mask files become class indices: one for a whole data set.

    Attributes:
        values: stored number -> class index, or IGNORE; no other number is accepted. Empty, with no colors either:
            the stored numbers are the indices, and 255 is IGNORE.
        colors: stored (red, green, blue) -> class index, or IGNORE, for masks in colors. Empty for numbers.
    """

    values: Mapping[int, int] = field(default_factory=dict)
    colors: Mapping[tuple[int, int, int], int] = field(default_factory=dict)

    def renumbered(self, index: Mapping[int, int]) -> MaskCoding:
        """The same files read into other class indices: `index` is from these to those; IGNORE stays."""
        if self.colors:
            return MaskCoding(colors={c: index.get(i, IGNORE) for c, i in self.colors.items()})
        values = self.values or {i: i for i in index} | {IGNORE: IGNORE}
        return MaskCoding(values={value: index.get(i, IGNORE) for value, i in values.items()})


def read_mask(path: Path, coding: MaskCoding, *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The class of every pixel.

    Args:
        path: PNG of indices, of a palette (its indices count, not its colors), of 1 or 16 bits; with
            `coding.colors` also RGB. TIFF, GIF and BMP likewise; a JPEG changes values and is refused.
        coding: what stored numbers or colors mean. With neither, the numbers are the indices and 255 is IGNORE.
        size: (height, width) of the upright image, in pixels.

    Returns:
        (H, W) uint8: class indices, IGNORE where a pixel does not count.

    Raises:
        InputError: the file is missing or damaged, of another size than the image, in colors where numbers are
            expected, or holds a number or color that no class has.
    """
    with open_mask(path) as image:
        if (image.height, image.width) != size:
            raise InputError(
                f"{path} is {image.width} x {image.height} pixels but its image is {size[1]} x {size[0]}; "
                f"they must have the same size."
            )
        if coding.colors:
            return _from_colors(_color_codes(image, path), coding, path)
        stored = _numbers(image, path)
    if not coding.values:
        return _known(np.where(stored <= IGNORE, stored.astype(np.int32), UNKNOWN), stored, path)
    table = np.full(65536 if stored.dtype == np.uint16 else 256, UNKNOWN, dtype=np.int16)
    for value, index in coding.values.items():
        if value < len(table):
            table[value] = index
    return _known(table[stored], stored, path)


def stored_numbers(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(H, W) the numbers in a mask as they are stored, before any coding.

    Raises:
        InputError: the file is missing or damaged, or in colors.
    """
    with open_mask(path) as image:
        return _numbers(image, path)


def open_mask(path: Path) -> Image.Image:
    """A mask with its pixels loaded, of the mode it is stored in.

    Raises:
        InputError: the file is missing, damaged or no image, or a JPEG.
    """
    try:
        content = read_bytes(path, "image")
    except UnreadableFileError as error:
        raise InputError(f"the mask {error}") from None
    format = true_format(content[:HEAD_BYTES])
    if format in (None, "jpeg", "webp", "heic"):
        kind = "not an image" if format is None else f"a {format.upper()}, which changes pixel values"
        raise InputError(f"the mask {path} is {kind}; save masks as PNG.")
    try:
        image: Image.Image = Image.open(BytesIO(content))
        if image.width * image.height > MOST // COST:
            raise InputError(
                f"the mask {path} has {image.width} x {image.height} pixels, above the limit of "
                f"{MOST / COST / 1e6:.0f} million."
            )
        with BUDGET.take(image.width * image.height * COST + len(content)):
            image.load()
    except InputError:
        raise
    except BAD_DATA as error:
        raise InputError(f"the mask {path} is damaged: {' '.join(str(error).split())[:80]}.") from None
    if format == "png" and image.mode == "L" and content[24] in (2, 4):  # bits per pixel, in the header
        # Pillow spreads gray of few bits over 0 to 255, so that it looks right: 1 of 2 bits becomes 85.
        image = image.point([value // (85 if content[24] == 2 else 17) for value in range(256)])
    return image


def _numbers(image: Image.Image, path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if image.mode not in NUMBER_MODES:
        raise InputError(
            f"the mask {path} is in colors (Pillow's mode {image.mode}) where one value per pixel is expected; "
            f"give masks: colors in handlens.yaml, or save one channel."
        )
    stored = np.asarray(image)
    if image.mode == "I" and (stored.min() < 0 or stored.max() > 65535):
        raise InputError(f"the mask {path} has values from {stored.min()} to {stored.max()}; use 0 to 65535.")
    return stored.astype(np.uint8) if image.mode in ("1", "L", "P") else stored.astype(np.uint16)


def _color_codes(image: Image.Image, path: Path) -> NDArray[np.uint32]:
    """(H, W) red * 65536 + green * 256 + blue."""
    if image.mode.startswith("I") or image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "PA"):
        raise InputError(f"the mask {path} has Pillow's mode {image.mode}, which has no 8-bit colors.")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[:, :, 3].min() < 255:
        raise InputError(f"the mask {path} has transparent pixels, which have no color; save it without alpha.")
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(np.uint32), 2, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _from_colors(codes: NDArray[np.uint32], coding: MaskCoding, path: Path) -> NDArray[np.uint8]:
    by_code = sorted((red << 16 | green << 8 | blue, index) for (red, green, blue), index in coding.colors.items())
    known = np.array([code for code, _ in by_code], dtype=np.uint32)
    indices = np.array([index for _, index in by_code], dtype=np.int16)
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    return _known(np.where(known[place] == codes, indices[place], UNKNOWN), codes, path, colors=True)


def _known(
    indices: NDArray[np.signedinteger],
    stored: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32],
    path: Path,
    *,
    colors: bool = False,
) -> NDArray[np.uint8]:
    """The indices as uint8.

    Raises:
        InputError: some are UNKNOWN.
    """
    wrong = stored[indices == UNKNOWN]
    if wrong.size:
        values, counts = np.unique(wrong, return_counts=True)
        most = int(values[counts.argmax()])
        shown = f"the color {(most >> 16, most >> 8 & 255, most & 255)}" if colors else f"the value {most}"
        more = (
            f", and {len(values) - 1} more values that belong to no class"
            if len(values) > 1
            else ", which belongs to no class"
        )
        raise InputError(
            f"the mask {path} has {shown} in {int(counts.max())} pixels{more}; see masks: in docs/data.md."
        )
    assert indices.size == 0 or indices.max() <= IGNORE
    return np.asarray(indices).astype(np.uint8)
