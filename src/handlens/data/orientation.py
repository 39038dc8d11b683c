"""EXIF orientation: how a stored image is to be turned, 1 (as it is) to 8."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

ORIENTATION = 274  # a TIFF tag: EXIF is a TIFF structure


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, 3) as stored -> as it is to be seen, contiguous."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def orientation_of(image: ImageFile.ImageFile, format: str, content: bytes) -> int:
    """
    Args:
        image: opened by Pillow. format: a key of FORMAT_NAMES. content: the whole file.
    """
    if format == "jpeg":
        return jpeg_orientation(content)
    if format == "png":
        return _exif_orientation(_png_exif(content))
    if format == "webp":
        return _exif_orientation(image.info.get("exif", b""))
    if format == "tiff":
        value = image.tag_v2.get(ORIENTATION)  # type: ignore[attr-defined]
        return value if value in range(1, 9) else 1
    return 1  # GIF and BMP have none; a HEIC's rotation is part of the container and of its size


def loaded_orientation(image: Image.Image) -> int:
    """Of an image that somebody has opened and loaded with Pillow, by its EXIF block alone, as of files."""
    return _exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))


def jpeg_orientation(content: bytes) -> int:
    """1 to 8, without opening Pillow."""
    return _exif_orientation(_jpeg_exif(content))


def _jpeg_exif(content: bytes) -> bytes:
    """The EXIF block of a JPEG, b"" where there is none. Own code: opening Pillow would cost a tenth of a decode."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA:  # the scan begins
            break
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xE1 and content[position + 4 : position + 10] == b"Exif\0\0":
            return content[position + 10 : end]
        position = end
    return b""


def _png_exif(content: bytes) -> bytes:
    """The eXIf chunk. Own code: it may follow the pixels, and Pillow would decode them to find it."""
    position = 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"eXIf":
            return content[position + 8 : position + 8 + length]
        position += 12 + length
    return b""


def _exif_orientation(exif: bytes) -> int:
    """1 to 8; 1 where the block is missing or malformed, as every viewer has it."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
