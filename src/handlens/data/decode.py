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
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile

from handlens.errors import InputError

MAX_PIXELS = 178_956_970  # above this Pillow calls an image a decompression bomb: 0.5 GB as RGB
HEAD_BYTES = 64  # enough for true_format

FORMAT_NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "gif": "GIF",
    "bmp": "BMP",
    "tiff": "TIFF",
    "heic": "HEIC",
}
BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # "BM" alone also begins a text about a BMW
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})

ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC = 274, 258, 262  # TIFF tags; EXIF is a TIFF structure
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

# Pillow warns from half of MAX_PIXELS on. `decode` has its limit and says so in a sentence; Pillow's error stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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


def true_format(head: bytes) -> str | None:
    """The format that the first bytes (HEAD_BYTES suffice) belong to, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in BMP_HEADER_SIZES:
        return "bmp"
    if head.startswith(TIFF_HEADS):
        return "tiff"
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS and b"avif" not in head[16:40]:
        return "heic"
    return None


def probe(content: bytes, name: str) -> ImageInfo:
    """Read the header; no pixel is decoded and no limit is applied.

    Args:
        content: the whole file.
        name: what messages call it.

    Raises:
        UnreadableImageError: the bytes are no image, or its header is damaged.
    """
    format = _known_format(content, name)
    with _readable(format, name), _open(format, content) as image:
        orientation = _orientation(image, format, content)
        width, height = image.size
        if orientation >= 5 and format not in TURNED_BY_LIBRARY:
            width, height = height, width
        frames = int(getattr(image, "n_frames", 1))
        return ImageInfo(
            format=format, width=width, height=height, orientation=orientation, mode=image.mode, frames=frames
        )


def decode(
    source: Path | bytes,
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
    name = name or (str(source) if isinstance(source, Path) else "the image")
    content = _read(source, name) if isinstance(source, Path) else source
    format = _known_format(content, name)
    with _readable(format, name):
        if format == "jpeg":
            orientation = _exif_orientation(_jpeg_exif(content))
            pixels = _turbo_jpeg(content, orientation, at_least=at_least, max_pixels=max_pixels, name=name)
            if pixels is not None:
                return _upright(pixels, orientation)
        with _open(format, content) as image:
            _check_size(*image.size, max_pixels=max_pixels, name=name)
            orientation = _orientation(image, format, content)
            image.load()
            return _upright(_rgb(image, name), 1 if format in TURNED_BY_LIBRARY else orientation)


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableImageError(f"{name}: file not found.") from None
    except IsADirectoryError:
        raise UnreadableImageError(f"{name}: is a folder, not an image.") from None
    except PermissionError:
        raise UnreadableImageError(f"{name}: permission to read it is denied.") from None
    except OSError as error:  # a symlink loop, a failing disk, a share that went away
        raise UnreadableImageError(f"{name}: cannot be read ({error.strerror}).") from error


def _known_format(content: bytes, name: str) -> str:
    if not content:
        raise UnreadableImageError(f"{name}: is empty (0 bytes).")
    format = true_format(content[:HEAD_BYTES])
    if format is None:
        known = ", ".join(FORMAT_NAMES.values())
        raise UnreadableImageError(
            f"{name}: is not an image: it begins with {content[:12]!r}, which is none of {known}."
        )
    return format


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


def _check_size(width: int, height: int, *, max_pixels: int, name: str) -> None:
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{name}: {width} x {height} = {width * height / 1e6:.0f} million pixels, above the limit of "
            f"{max_pixels / 1e6:.0f} million; resize it first."
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
    _check_size(width, height, max_pixels=max_pixels, name=name)
    if colors in ("CMYK", "YCCK"):
        return None
    lowest_height, lowest_width = at_least or (height, width)
    if orientation >= 5 and at_least is not None:  # the sides are swapped after decoding
        lowest_height, lowest_width = lowest_width, lowest_height
    if height < lowest_height or width < lowest_width:
        lowest_height, lowest_width = height, width
    try:
        return simplejpeg.decode_jpeg(content, "RGB", min_height=lowest_height, min_width=lowest_width)
    except ValueError as error:
        if any(words in str(error).lower() for words in JPEG_LOST_PIXELS):
            raise
        return None


def _open(format: str, content: bytes) -> ImageFile.ImageFile:
    """Pillow's reader of a format with the header read. Imported when the format is first met: 30 ms.

    Called directly because `Image.open` would guess the format again and apply its own limit of pixels.
    """
    if format == "jpeg":
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(BytesIO(content))
    if format == "png":
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(BytesIO(content))
    if format == "webp":
        from PIL.WebPImagePlugin import WebPImageFile

        return WebPImageFile(BytesIO(content))
    if format == "gif":
        from PIL.GifImagePlugin import GifImageFile

        return GifImageFile(BytesIO(content))
    if format == "bmp":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile(BytesIO(content))
    if format == "tiff":
        from PIL.TiffImagePlugin import TiffImageFile

        return TiffImageFile(BytesIO(content))
    from pi_heif import HeifImageFile

    return HeifImageFile(BytesIO(_heic_without_metadata(content)))


def _heic_without_metadata(content: bytes) -> bytes:
    """The same file with its EXIF and XMP detached from the image: pi_heif 1.4.0 reads them while opening, and a
    damaged reference there ends the process with a segmentation fault.

    Raises:
        ValueError: there is no "meta" box, without which there is no image either.

    Source: ISO/IEC 14496-12 (boxes), 23008-12 ("cdsc": this item describes that one).
    """
    position = 0
    while position + 16 <= len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        if size == 1:  # a 64-bit size follows the name
            size = int.from_bytes(content[position + 8 : position + 16], "big")
        end = position + size if size else len(content)
        if content[position + 4 : position + 8] == b"meta":
            return content[:position] + content[position:end].replace(b"cdsc", b"skip") + content[end:]
        position = max(end, position + 8)
    raise ValueError("no meta box")


def _rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """A loaded image of any mode as (H, W, 3)."""
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
            image.info["transparency"] = tuple(value >> 8 for value in color)
        rgba = image.convert("RGBA")
        white_paper = Image.new("RGB", image.size, "white")
        white_paper.paste(rgba, mask=rgba)
        return np.array(white_paper)
    return np.array(image.convert("RGB"))


# Orientation: EXIF tag 274 says how the stored image is to be turned, 1 (as it is) to 8.


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, 3) as stored -> as it is to be seen, contiguous."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image, format: str, content: bytes) -> int:
    if format == "jpeg":
        return _exif_orientation(_jpeg_exif(content))
    if format == "png":
        return _exif_orientation(_png_exif(content))
    if format == "webp":
        return _exif_orientation(image.info.get("exif", b""))
    if format == "tiff":
        value = image.tag_v2.get(ORIENTATION)  # type: ignore[attr-defined]
        return value if value in range(1, 9) else 1
    return 1  # GIF and BMP have none; a HEIC's rotation is part of the container and of its size


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
