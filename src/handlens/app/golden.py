"""Golden images for apps: small, and in formats that a few lines read in every language."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.data.decode import UnreadableImageError, decode
from handlens.data.image_format import HEAD_BYTES, true_format
from handlens.data.orientation import ORIENTATION, loaded_orientation
from handlens.errors import InputError
from handlens.reading.files import read_bytes

Pixels = NDArray[np.uint8]
IMAGES = 4
LONGEST = 640  # pixels; a larger photograph is reduced, for the folder lies beside every export
# (height, width) of noise that only the resize is tried with: odd margins, long and thin, larger and smaller.
RESIZED = ((97, 130), (161, 53), (390, 301))


@dataclass(frozen=True)
class GoldenImage:
    """
    Attributes:
        name: of its files, without suffix.
        file: what an app decodes. content: its bytes.
        image: (H, W, 3) uint8, what they decode to.
        id: the image of the user that it is.
    """

    name: str
    file: str
    content: bytes
    image: Pixels
    id: str


def golden_images(paths: Sequence[tuple[str, Path]]) -> list[GoldenImage]:
    """At most IMAGES of them, spread evenly; those that cannot be read are left out.

    Args:
        paths: (id, file).

    Raises:
        InputError: not one can be read.
    """
    made: list[GoldenImage] = []
    for place in np.linspace(0, len(paths) - 1, min(IMAGES, len(paths))).astype(int):
        id, path = paths[place]
        try:
            image = decode(path)
        except UnreadableImageError:  # check and evaluate name it
            continue
        content, suffix = read_bytes(path, "image"), ".jpg"
        if max(image.shape[:2]) > LONGEST:
            content, suffix = _reduced(image), ".png"
        elif true_format(content[:HEAD_BYTES]) != "jpeg" or _turned_otherwise(content):
            content, suffix = _png(image), ".png"
        made.append(GoldenImage(str(len(made)), f"{len(made)}{suffix}", content, _decoded(content, image), id))
    if not made:
        raise InputError("none of the images for the app folder can be read; give others with --data.")
    return made


def _turned_otherwise(content: bytes) -> bool:
    """Whether Pillow turns it, by its XMP block, where its EXIF block says nothing."""
    with Image.open(io.BytesIO(content)) as opened:
        theirs = opened.getexif().get(ORIENTATION, 1)
        return (theirs if theirs in range(1, 9) else 1) != loaded_orientation(opened)


def noise() -> dict[str, Pixels]:
    """Images by name that only the resize is tried with."""
    rng = np.random.default_rng(0)
    return {f"resize-{number}": rng.integers(0, 256, (*size, 3), dtype=np.uint8) for number, size in enumerate(RESIZED)}


def pnm(image: Pixels) -> bytes:
    """(H, W, 3) as PPM, (H, W, 1) or (H, W) as PGM: three lines of text, then the levels.

    Source: the formats P6 and P5 of Netpbm.
    """
    height, width = image.shape[:2]
    kind = "P6" if image.shape[2:] == (3,) else "P5"
    return f"{kind}\n{width} {height}\n255\n".encode() + np.ascontiguousarray(image).tobytes()


def _reduced(image: Pixels) -> bytes:
    small = Image.fromarray(image)
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return _png(np.asarray(small))


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _decoded(content: bytes, image: Pixels) -> Pixels:
    """What these bytes decode to: of a PNG that was made here, its own pixels."""
    if not content.startswith(b"\x89PNG"):
        return image
    with Image.open(io.BytesIO(content)) as made:
        return np.asarray(made.convert("RGB"))
