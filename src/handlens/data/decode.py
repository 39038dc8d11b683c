"""The only place that turns bytes into pixels.

JPEG goes through libjpeg-turbo (simplejpeg), at reduced scale where the caller allows it; every other format, and the
JPEGs that libjpeg-turbo does not take, through Pillow. Both release Python's lock, and nothing here is shared between
calls, so that threads may decode side by side. No torch: prediction starts without it.

Color profiles are not applied: the nets were trained on images whose profiles were ignored.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from handlens.data.budget import BUDGET, MOST, SMALL
from handlens.data.image_format import FORMAT_NAMES, HEAD_BYTES, true_format
from handlens.data.orientation import jpeg_orientation, orientation_of, upright
from handlens.data.readers import opened
from handlens.errors import InputError
from handlens.reading.files import MissingFileError, UnreadableFileError, read_bytes

MAX_PIXELS = 178_956_970  # above this Pillow calls an image a decompression bomb: 0.5 GB as RGB
STRIP = 1 << 22  # pixels that are converted at once, of an image of more

# Bytes per pixel that decoding and then resizing need at their peak, the file itself left out; as measured with images
# of 60 megapixels (Pillow has 4 for a color, 3 are handed on, what decoders keep comes on top).
COSTS = {"jpeg": 8, "png": 8, "bmp": 8, "tiff": 8, "gif": 8, "webp": 17, "heic": 16}
HEAD_OF_JPEG = 64 * 1024  # bytes in which its kind stands, but for one behind a long comment
PROGRESSIVE = 2  # more, of a JPEG that keeps all coefficients until its end

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
TURNED_BY_LIBRARY = frozenset({"tiff", "heic"})  # Pillow turns a TIFF while loading it, libheif a HEIC

# What libjpeg-turbo says when pixels are missing (jerror.h, the JWRN_ messages). Pillow would fill them with gray
# and say nothing. Its other complaints (padding, an unknown color transform) cost no pixel: Pillow decides on those.
JPEG_LOST_PIXELS = ("premature end", "bad huffman code", "bad arithmetic code", "instead of rst")

# What the decoders raise for bad data: all but the last two were seen when 200,000 images of all formats were cut or
# had bytes changed at random, which brought out nothing else; the last two stand in Pillow's code.
BAD_DATA = (
    OSError,  # Pillow: a truncated file, libtiff's and libwebp's errors, an unknown pixel layout
    SyntaxError,  # Pillow: a header that makes no sense
    ValueError,  # simplejpeg and pi_heif; Pillow: a bad palette, tiles outside the image, text that unpacks too far
    TypeError,  # Pillow: TIFF tags of the wrong type
    IndexError,  # Pillow: GIF blocks that are too short
    EOFError,  # pi_heif: the coded image ends too early
    RuntimeError,  # libheif: a size above its own limits
    struct.error,  # Pillow: GIF and PNG blocks that are too short
    Image.DecompressionBombError,  # Pillow: a WebP canvas, a GIF frame or a TIFF above its limit
    KeyError,  # Pillow: TIFF tags that are missing
    zlib.error,  # Pillow: PNG text and profiles
)

# Of more than 32 MB, memory is given back to the system when it is freed; of Pillow's usual 16 MB some is kept by every
# thread.
Image.core.set_block_size(1 << 26)
# Pillow warns from half of MAX_PIXELS on. `decode` has its limit and says so in a sentence; Pillow's error stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Of metadata that is damaged, which changes no pixel.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")


class UnreadableImageError(InputError):
    """The file is missing, cannot be opened, is no image, is damaged, or is too large."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What the header says.

    Attributes:
        format: a key of FORMAT_NAMES, from the bytes and not from the extension.
        width, height: pixels, after orientation is applied.
        orientation: EXIF 1 to 8; 1 where there is none, and for HEIC, which has a rotation of its own.
        mode: Pillow's: "L", "RGB", "P", "CMYK", "I;16" ...
        frames: more than 1 for animations and TIFFs of several pages.
    """

    format: str
    width: int
    height: int
    orientation: int
    mode: str
    frames: int


def probe(content: bytes, name: str) -> ImageInfo:
    """Read the header; no pixel is decoded and no limit is applied.

    Args:
        content: the whole file.
        name: what messages call it.

    Raises:
        UnreadableImageError: the bytes are no image, or its header is damaged.
    """
    format = _known_format(content, name)
    with _readable(format, name), opened(format, content) as image:
        orientation = orientation_of(image, format, content)
        width, height = image.size
        if orientation >= 5 and format not in TURNED_BY_LIBRARY:
            width, height = height, width
        frames = int(getattr(image, "n_frames", 1))
        return ImageInfo(
            format=format, width=width, height=height, orientation=orientation, mode=image.mode, frames=frames
        )


def decode(
    source: Path | str | bytes,
    *,
    at_least: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """Any image as RGB, turned the right way up.

    Alpha is composited on white; 16 bits become 8 by v * 255 / 65535; of an animation the first frame is taken.
    32-bit integer and float TIFFs are refused: nothing in the file says which value is white.

    Args:
        source: a file, or its bytes.
        at_least: (height, width) in pixels, of the upright image. A JPEG may come smaller than it is (by scaled
            DCT, at one of libjpeg-turbo's eighths), but neither side falls below this; one that is already
            smaller comes as it is, and so does every other format. None decodes at full size.
        max_pixels: width * height above which the image is refused before a pixel is decoded. Where it is raised,
            Pillow still refuses TIFF and WebP above MAX_PIXELS, unless PIL.Image.MAX_IMAGE_PIXELS is raised too.
        name: what messages call the image; the path by default.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        UnreadableImageError: one sentence that names the file and what is wrong with it.
    """
    if at_least is not None and min(at_least) < 1:
        raise ValueError(f"at_least must be two positive numbers of pixels, got {at_least}")
    source = Path(source) if isinstance(source, str) else source
    name = name or (str(source) if isinstance(source, Path) else "the image")
    content = _read(source, name) if isinstance(source, Path) else source
    format = _known_format(content, name)
    with _readable(format, name):
        if format == "jpeg":
            orientation = jpeg_orientation(content)
            pixels = _turbo_jpeg(content, orientation, at_least=at_least, max_pixels=max_pixels, name=name)
            if pixels is not None:
                return upright(pixels, orientation)
        with opened(format, content) as image:
            cost = COSTS[format] + (PROGRESSIVE if format == "jpeg" else 0)
            _check_size(*image.size, max_pixels=max_pixels, cost=cost, name=name)
            orientation = orientation_of(image, format, content)
            with BUDGET.take(image.width * image.height * cost + len(content)):
                image.load()
                pixels = rgb(image, name)
                image.close()
                return upright(pixels, 1 if format in TURNED_BY_LIBRARY else orientation)


def _read(path: Path, name: str) -> bytes:
    try:
        return read_bytes(path, "image")
    except MissingFileError:
        raise UnreadableImageError(f"{name}: file not found.") from None
    except UnreadableFileError as error:
        raise UnreadableImageError(f"{name}: {error.reason}.") from None


def _known_format(content: bytes, name: str) -> str:
    if not content:
        raise UnreadableImageError(f"{name}: is empty (0 bytes).")
    format = true_format(content[:HEAD_BYTES])
    if format is None:
        known = ", ".join(FORMAT_NAMES.values())
        raise UnreadableImageError(
            f"{name}: is not an image: it begins with {_shown(content[:12])}, which is none of {known}."
        )
    return format


def _shown(content: bytes) -> str:
    """Text as text, else bytes in hexadecimal."""
    text = " ".join(content.decode("ascii", errors="replace").split())
    return f"'{text}'" if content.isascii() and text.isprintable() else f"the bytes {content.hex(' ')}"


@contextmanager
def _readable(format: str, name: str) -> Iterator[None]:
    """Whatever a decoder raises for bad data becomes one sentence."""
    try:
        yield
    except UnreadableImageError:
        raise
    except BAD_DATA as error:
        text = " ".join(str(error).split())
        if isinstance(error, EOFError) or "truncated" in text.lower() or "premature end" in text.lower():
            reason = "is truncated"
        elif isinstance(error, Image.DecompressionBombError):
            reason = "claims more pixels than PIL.Image.MAX_IMAGE_PIXELS allows"
        else:
            reason = f"is damaged or of an unknown kind ({text[:80]})"
        raise UnreadableImageError(f"{name}: the {FORMAT_NAMES[format]} data {reason}.") from error


def _check_size(width: int, height: int, *, max_pixels: int, cost: int, name: str) -> None:
    """
    Args:
        cost: bytes per pixel. Who raises max_pixels takes the memory that it needs.
    """
    most = max_pixels if max_pixels > MAX_PIXELS else min(max_pixels, MOST // cost)
    if width * height > most:
        raise UnreadableImageError(
            f"{name}: {width} x {height} = {width * height / 1e6:.0f} million pixels, above the limit of "
            f"{most / 1e6:.0f} million; resize it first."
        )


def _turbo_jpeg(
    content: bytes, orientation: int, *, at_least: tuple[int, int] | None, max_pixels: int, name: str
) -> NDArray[np.uint8] | None:
    """(H, W, 3) not yet turned, or None where Pillow is to try.

    Raises:
        ValueError: pixels are missing from the data.
    """
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
    except (ValueError, KeyError):  # KeyError: simplejpeg has no name for 4:4:1 subsampling
        return None
    cost = COSTS["jpeg"]
    if width * height * cost > SMALL and b"\xff\xc2" in content[:HEAD_OF_JPEG]:
        cost += PROGRESSIVE
    if colors in ("CMYK", "YCCK"):
        return None
    _check_size(width, height, max_pixels=max_pixels, cost=cost, name=name)
    lowest_height, lowest_width = at_least or (height, width)
    if orientation >= 5 and at_least is not None:  # the sides are swapped after decoding
        lowest_height, lowest_width = lowest_width, lowest_height
    if height < lowest_height or width < lowest_width:
        lowest_height, lowest_width = height, width
    try:
        whole = at_least is None or lowest_height * 2 > height or lowest_width * 2 > width
        amount = width * height * (cost if whole else cost - COSTS["jpeg"]) + len(content)
        with BUDGET.take(amount) if amount > SMALL else nullcontext():  # small images spare the counting
            return simplejpeg.decode_jpeg(content, "RGB", min_height=lowest_height, min_width=lowest_width)
    except ValueError as error:
        if any(words in str(error).lower() for words in JPEG_LOST_PIXELS):
            raise
        return None


def rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """A Pillow image of any mode as (H, W, 3), not yet upright.

    Raises:
        UnreadableImageError: 32 bits a pixel.
    """
    if image.width * image.height <= STRIP:
        return _rgb(image, name)
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    step = max(1, STRIP // image.width)
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        strip.format, strip.tag_v2 = image.format, getattr(image, "tag_v2", {})  # type: ignore[attr-defined]
        pixels[top : top + step] = _rgb(strip, name)
    return pixels


def _rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    tags = getattr(image, "tag_v2", {})  # TIFF only
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.uint32)  # (H, W)
        white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1  # 4095 in a 12-bit TIFF
        gray = ((values * 255 + white // 2) // white).astype(np.uint8)
        if tags.get(PHOTOMETRIC) == 0:  # WhiteIsZero, which Pillow applies to 8 bits only
            gray = 255 - gray
        gray[values == image.info.get("transparency", -1)] = 255
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UnreadableImageError(
            f"{name}: has 32-bit pixels (Pillow's mode {image.mode}), with no defined white value; "
            "save it with 8 or 16 bits per channel."
        )
    if image.has_transparency_data:
        color = image.info.get("transparency")
        if isinstance(color, tuple) and max(color) > 255:  # 16-bit RGB, of which Pillow keeps the high bytes
            image = image.copy()
            image.info["transparency"] = tuple(value >> 8 for value in color)
        rgba = image.convert("RGBA")
        white_paper = Image.new("RGB", image.size, "white")
        white_paper.paste(rgba, mask=rgba)
        return np.array(white_paper)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
