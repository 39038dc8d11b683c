"""Every awkward image comes out right or is refused in one sentence. References: Pillow, and plain arithmetic."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from handlens.data.decode import MAX_PIXELS, ImageInfo, UnreadableImageError, decode, probe
from handlens.data.image_format import true_format

RED, GRAY, BLUE = (230, 30, 30), (40, 40, 40), (30, 30, 230)
SOURCE = Path(__file__).resolve().parents[2] / "src"


def quarters(*, height: int = 48, width: int = 64) -> Image.Image:
    """Gray with the upper left quarter red and the lower right blue: no two orientations of it look alike."""
    pixels = np.full((height, width, 3), GRAY, dtype=np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[height // 2 :, width // 2 :] = BLUE
    pixels[: height // 2, : width // 4] = (230, 230, 30)
    return Image.fromarray(pixels)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    return block


def png(rows: np.ndarray, *, depth: int, color: int, extra: bytes = b"") -> bytes:
    """A PNG from its definition, for the kinds that Pillow does not write. `rows`: (H, bytes per row) uint8."""
    width = rows.shape[1] * 8 // (depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color])
    header = struct.pack(">IIBBBBB", width, rows.shape[0], depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def assert_near(pixels: np.ndarray, reference: object, tolerance: int) -> None:
    reference = np.asarray(reference)
    assert pixels.dtype == np.uint8
    assert pixels.shape == reference.shape
    difference = np.abs(pixels.astype(int) - reference.astype(int))
    assert difference.max() <= tolerance


def refusal(source: Path | bytes, **options: object) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        decode(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 300
    return message


# --- Formats ------------------------------------------------------------------------------------------------------

WRITTEN = {  # Pillow's name -> ours, largest difference that the coding makes (at edges of color)
    "PNG": ("png", 0),
    "BMP": ("bmp", 0),
    "TIFF": ("tiff", 0),
    "GIF": ("gif", 0),
    "WEBP": ("webp", 90),
    "JPEG": ("jpeg", 90),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_every_format_by_its_bytes_whatever_the_file_is_called(written: str, tmp_path: Path) -> None:
    format, tolerance = WRITTEN[written]
    content = saved(quarters(), written)
    path = tmp_path / "named.jpg"
    path.write_bytes(content)
    assert true_format(content[:64]) == format
    pixels = decode(path)
    assert pixels.flags["C_CONTIGUOUS"] and pixels.flags["WRITEABLE"]  # torch.from_numpy wants both
    assert_near(pixels, quarters(), tolerance)
    assert np.abs(pixels.astype(int) - np.asarray(quarters())).mean() < 3
    assert np.array_equal(pixels, decode(content))
    assert probe(content, "x") == ImageInfo(
        format=format, width=64, height=48, orientation=1, mode="P" if written == "GIF" else "RGB", frames=1
    )


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"BMW and other makes of car, in alphabetical order",
        b"GIF90a",
        b"II*",
        b"RIFF....WAVE",
        b"%PDF-1.7",
    ],
)
def test_what_is_no_image_has_no_format(head: bytes) -> None:
    assert true_format(head) is None


def test_jpeg_is_what_pillow_reads(shared_data: Path) -> None:
    for path in sorted((shared_data / "flowers" / "test").rglob("*.jpg"))[::80]:
        assert_near(decode(path), Image.open(path).convert("RGB"), 2)


def test_heic_is_turned_once(heic_rotated: bytes) -> None:
    pixels = decode(heic_rotated)
    assert pixels.shape == (64, 48, 3)  # 64 x 48 stored, turned a quarter to the right
    assert_near(pixels[10:20, 30:40], np.broadcast_to(RED, (10, 10, 3)), 12)
    assert_near(pixels[44:54, 8:18], np.broadcast_to(BLUE, (10, 10, 3)), 12)
    assert probe(heic_rotated, "x") == ImageInfo(
        format="heic", width=48, height=64, orientation=1, mode="RGB", frames=1
    )


def test_heic_alpha_on_white(heic_alpha: bytes) -> None:
    pixels = decode(heic_alpha)
    assert_near(pixels[4:20, 4:28], np.broadcast_to(RED, (16, 24, 3)), 12)
    assert_near(pixels[:, 36:], np.full((48, 28, 3), 255), 3)


def test_heic_with_damaged_metadata_does_not_end_the_process(heic_rotated: bytes) -> None:
    """pi_heif 1.4.0 crashes on this one: a subprocess, so that a crash is a failure and not the end of the tests."""
    reference = heic_rotated.index(b"iloc") + 4
    code = (
        "import random, sys; from handlens.data.decode import *\n"
        "content = sys.stdin.buffer.read(); rng = random.Random(0); read = refused = 0\n"
        "for _ in range(1500):\n"
        "    damaged = bytearray(content)\n"
        f"    for _ in range(2): damaged[rng.randrange({reference}, {reference + 130})] = rng.randrange(256)\n"
        "    try: decode(bytes(damaged), max_pixels=1_000_000); read += 1\n"
        "    except UnreadableImageError: refused += 1\n"
        "print(read, refused)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=heic_rotated, capture_output=True, env=environment())
    assert done.returncode == 0, done.stderr.decode()
    read, refused = map(int, done.stdout.split())
    assert read > 100 and refused > 100


# --- Modes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "CMYK"])
def test_modes_become_rgb(mode: str) -> None:
    image = quarters().convert(mode)
    assert_near(decode(saved(image, "TIFF")), image.convert("RGB"), 0)


def test_gray_jpeg() -> None:
    content = saved(quarters().convert("L"), "JPEG")
    assert probe(content, "x").mode == "L"
    assert_near(decode(content), Image.open(io.BytesIO(content)).convert("RGB"), 1)


def test_cmyk_jpeg_as_pillow_converts_it() -> None:
    image = quarters().convert("CMYK")
    content = saved(image, "JPEG", quality=95)  # Pillow writes Adobe's marker and inverted values, as Photoshop does
    assert b"Adobe" in content
    assert probe(content, "x").mode == "CMYK"
    assert_near(decode(content), quarters(), 30)
    assert np.array_equal(decode(content, at_least=(1, 1)), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


RAMP = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)  # 0 to 65472
RAMP[-1, -1] = 65535
RAMP_8 = np.repeat(np.round(RAMP.astype(float) * 255 / 65535).astype(int)[:, :, None], 3, axis=2)


def big_endian_tiff(values: np.ndarray) -> bytes:
    """16-bit gray, most significant byte first, from the TIFF 6.0 definition."""
    height, width = values.shape
    tags = [
        (256, width),
        (257, height),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, values.nbytes),
    ]
    directory = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    data = values.astype(">u2").tobytes()
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + struct.pack(">H", len(tags)) + directory + bytes(4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF big-endian", "TIFF white is zero"])
def test_16_bit_gray_is_scaled_and_not_clipped(kind: str) -> None:
    expected = RAMP_8
    if kind == "TIFF big-endian":
        content = big_endian_tiff(RAMP)
    elif kind == "TIFF white is zero":
        content = saved(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
        assert Image.open(io.BytesIO(content)).tag_v2[262] == 0  # type: ignore[attr-defined]
        expected = 255 - RAMP_8
    else:
        content = saved(Image.fromarray(RAMP), kind)
    assert probe(content, "x").mode.startswith("I;16")
    assert_near(decode(content), expected, 0)


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_png_with_color_or_alpha(color: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (16, 16, channels), dtype=np.uint16)
    content = png(values.astype(">u2").view(np.uint8).reshape(16, -1), depth=16, color=color)
    unit = values / 65535
    rgb = unit[:, :, :3] if channels >= 3 else np.repeat(unit[:, :, :1], 3, axis=2)
    alpha = unit[:, :, -1:] if channels in (2, 4) else np.ones((16, 16, 1))
    assert_near(decode(content), 255 * (rgb * alpha + 1 - alpha), 2)


def test_a_transparent_color_of_16_bits_becomes_white() -> None:
    rgb = np.array([[[0x1234, 0x5678, 0x9ABC], [0xFFFF, 0, 0x8000]]], dtype=">u2")
    key = chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))
    assert_near(
        decode(png(rgb.view(np.uint8).reshape(1, -1), depth=16, color=2, extra=key)), [[[255] * 3, [255, 0, 128]]], 0
    )
    gray = np.array([[0x1234, 0x8000]], dtype=">u2")
    key = chunk(b"tRNS", struct.pack(">H", 0x1234))
    assert_near(decode(png(gray.view(np.uint8), depth=16, color=0, extra=key)), [[[255] * 3, [128] * 3]], 0)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(mode: str, format: str) -> None:
    image = quarters().convert(mode)
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    image.putalpha(Image.fromarray(alpha))
    content = saved(image, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    rgb = np.asarray(quarters().convert(mode).convert("RGB"), dtype=float)
    share = alpha[:, :, None] / 255
    assert_near(decode(content), rgb * share + 255 * (1 - share), 1)


def test_palette_with_transparency_on_white() -> None:
    image = quarters().quantize(8)
    index = image.getpixel((0, 40))  # the lower left quarter: gray
    one = decode(saved(image, "PNG", transparency=index))
    gif = decode(saved(image, "GIF", transparency=index))
    expected = np.array(quarters())
    expected[24:, :32] = expected[:24, 32:] = 255
    assert_near(one, expected, 2)
    assert_near(gif, expected, 2)
    levels = bytes(128 if i == index else 255 for i in range(8))
    half = decode(saved(image, "PNG", transparency=levels))
    assert_near(half[40, 4], np.array([40 * 128 / 255 + 255 * 127 / 255] * 3), 2)
    assert_near(half[40, 60], np.array(BLUE), 2)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_white_are_refused(mode: str) -> None:
    message = refusal(saved(quarters().convert("L").convert(mode), "TIFF"))
    assert "32-bit" in message and "8 or 16 bits" in message


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(format: str) -> None:
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert probe(content, "x").frames == 3
    assert_near(decode(content), np.broadcast_to((255, 0, 0), (30, 40, 3)), 1)


@pytest.mark.parametrize("name", ["jpeg_arithmetic", "jpeg_sampled_3x1", "jpeg_sampled_1x4"])
def test_rare_jpegs(name: str, request: pytest.FixtureRequest) -> None:
    content = request.getfixturevalue(name)
    pixels = decode(content)
    assert_near(pixels, Image.open(io.BytesIO(content)).convert("RGB"), 2)
    assert pixels[2, 2, 0] > 180 and pixels[13, 20, 2] > 180  # red and blue where they belong


# --- Orientation --------------------------------------------------------------------------------------------------

TURNED = [(format, orientation) for format in ("JPEG", "PNG", "WEBP", "TIFF") for orientation in range(1, 9)]


@pytest.mark.parametrize(("format", "orientation"), TURNED)
def test_exif_orientation_is_applied(format: str, orientation: int) -> None:
    options = {"tiffinfo": {274: orientation}} if format == "TIFF" else {"exif": exif(orientation)}
    content = saved(quarters(), format, **options)
    reference = Image.open(io.BytesIO(content))
    upright = ImageOps.exif_transpose(reference).convert("RGB")
    pixels = decode(content)
    assert pixels.flags["C_CONTIGUOUS"] and pixels.flags["WRITEABLE"]
    assert_near(pixels, upright, 2)
    if orientation > 1:
        assert pixels.shape[0] != 48 or np.abs(pixels.astype(int) - np.asarray(quarters())).max() > 100  # it did turn
    info = probe(content, "x")
    assert (info.orientation, info.height, info.width) == (orientation, *pixels.shape[:2])


def test_an_image_turned_to_the_right_by_hand() -> None:
    pixels = decode(saved(quarters(), "JPEG", exif=exif(6), quality=95))
    assert pixels.shape == (64, 48, 3)
    assert_near(pixels[2:8, 40:46], np.broadcast_to((230, 230, 30), (6, 6, 3)), 12)  # the left upper corner, now right
    assert_near(pixels[50:60, 4:14], np.broadcast_to(BLUE, (10, 10, 3)), 12)


def test_cmyk_and_rare_jpegs_are_turned_too(jpeg_sampled_3x1: bytes) -> None:
    assert decode(saved(quarters().convert("CMYK"), "JPEG", exif=exif(8))).shape == (64, 48, 3)
    block = exif(6).tobytes()
    turned = jpeg_sampled_3x1[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg_sampled_3x1[2:]
    assert np.array_equal(decode(turned), np.rot90(decode(jpeg_sampled_3x1), -1))


def test_exif_after_the_pixels_of_a_png() -> None:
    content = saved(quarters(), "PNG")
    late = content[:-12] + chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")) + content[-12:]
    assert probe(late, "x").orientation == 6
    assert decode(late).shape == (64, 48, 3)


BROKEN_EXIF = {
    "empty": b"Exif\0\0",
    "no byte order": b"Exif\0\0XX*\0\x08\0\0\0",
    "directory beyond the end": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "more entries than bytes": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "value 9": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, 9, 0),
    "cut inside the entry": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", 274, 3, 1),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")  # Pillow's, where it opens the file for its mode
@pytest.mark.parametrize("block", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_malformed_exif_means_upright(block: bytes) -> None:
    content = saved(quarters(), "JPEG", exif=block)
    assert decode(content).shape == (48, 64, 3)
    assert probe(content, "x").orientation == 1


def test_orientation_as_a_long_and_big_endian() -> None:
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHII", 274, 4, 1, 6)
    assert decode(saved(quarters(), "JPEG", exif=block)).shape == (64, 48, 3)


# --- Reduced scale ------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    at_least=st.tuples(st.integers(1, 320), st.integers(1, 320)),
    orientation=st.integers(1, 8),
    subsampling=st.sampled_from([0, 2]),
)
def test_reduced_scale_is_the_smallest_that_keeps_both_sides(
    height: int, width: int, at_least: tuple[int, int], orientation: int, subsampling: int
) -> None:
    content = saved(quarters(height=height, width=width), "JPEG", exif=exif(orientation), subsampling=subsampling)
    full = decode(content)
    upright_height, upright_width = full.shape[:2]
    # libjpeg-turbo scales by eighths and rounds up; when no eighth suffices the image stays as it is.
    shapes = [(-(-upright_height * k // 8), -(-upright_width * k // 8)) for k in range(1, 9)]
    enough = [shape for shape in shapes if shape[0] >= at_least[0] and shape[1] >= at_least[1]]
    pixels = decode(content, at_least=at_least)
    assert pixels.shape[:2] == (enough[0] if enough else (upright_height, upright_width))
    if not enough:
        assert np.array_equal(pixels, full)


@pytest.mark.parametrize("side", [1, 3, 4, 7, 8, 9])
def test_tiny_jpegs_are_not_blurred(side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), "JPEG", quality=95, subsampling=0)
    reference = Image.open(io.BytesIO(content)).convert("RGB")
    assert_near(decode(content), reference, 1)
    assert_near(decode(content, at_least=(224, 224)), reference, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_scale_shows_the_same_image(orientation: int) -> None:
    content = saved(quarters(height=480, width=640), "JPEG", exif=exif(orientation), quality=95)
    full = decode(content)
    small = decode(content, at_least=(60, 60))
    assert small.shape[0] * 8 == full.shape[0] and small.shape[1] * 8 == full.shape[1]
    assert_near(small, block_means(full), 12)


def block_means(pixels: np.ndarray) -> np.ndarray:
    """Means of 8 x 8 blocks: what an eighth of the scale shows."""
    height, width = pixels.shape[0] // 8, pixels.shape[1] // 8
    return pixels.reshape(height, 8, width, 8, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def test_only_jpeg_is_reduced() -> None:
    assert decode(saved(quarters(), "PNG"), at_least=(6, 8)).shape == (48, 64, 3)


@pytest.mark.parametrize("at_least", [(0, 5), (5, -1)])
def test_at_least_must_be_positive(at_least: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        decode(saved(quarters(), "JPEG"), at_least=at_least)


# --- What cannot be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", list(WRITTEN))
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(format: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    content = saved(noise, format)
    message = refusal(content[: int(len(content) * share)], name="photo.jpg")
    assert message.startswith("photo.jpg: the ")
    if format in ("JPEG", "BMP", "GIF"):
        assert "is truncated" in message


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("at_least", [None, (32, 32)])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"], ids=["cut", "cut and closed"])
def test_a_truncated_photograph_is_not_half_gray(
    share: float, at_least: tuple[int, int] | None, ending: bytes, shared_data: Path
) -> None:
    content = sorted((shared_data / "flowers" / "test").rglob("*.jpg"))[0].read_bytes()
    assert decode(content).shape[2] == 3
    assert refusal(content[: int(len(content) * share)] + ending, at_least=at_least) == (
        "the image: the JPEG data is truncated."
    )


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}])
def test_truncated_progressive_and_restarting_jpegs(options: dict[str, object]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = saved(noise, "JPEG", **options)
    for share in (0.3, 0.6, 0.95):
        assert "JPEG data is truncated" in refusal(content[: int(len(content) * share)])


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    content = saved(quarters(), "JPEG")
    assert np.array_equal(decode(content + b"\0" * 100 + b"appended by some camera"), decode(content))
    padded = content[:-2] + b"\0\0\0\0" + content[-2:]  # "extraneous bytes before marker": libjpeg-turbo only warns
    assert np.array_equal(decode(padded), decode(content))


def test_empty_text_missing_folder_and_loop(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert refusal(empty) == f"{empty}: is empty (0 bytes)."
    text = tmp_path / "text.jpg"
    text.write_text("404 not found\n")
    assert "text.jpg: is not an image: it begins with '404 not foun'" in refusal(text)
    text.write_bytes(b"\x7fELF\x02\x01")
    assert "it begins with the bytes 7f 45 4c 46 02 01, which is none of JPEG" in refusal(text)
    assert "file not found" in refusal(tmp_path / "missing.jpg")
    assert "is a folder" in refusal(tmp_path)
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    assert "loop.jpg: cannot be read: " in refusal(loop)
    assert refusal(text, name="upload 3").startswith("upload 3: ")
    with pytest.raises(UnreadableImageError, match=r"x: is empty"):
        probe(b"", "x")


def test_no_permission() -> None:
    """As another user where the tests run as root, who may read everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file, mode in (("open.png", 0o644), ("closed.png", 0)):
            (folder / file).write_bytes(saved(quarters(), "PNG"))
            (folder / file).chmod(mode)
        code = (
            "import os, sys; from pathlib import Path; from handlens.data.decode import *\n"
            "decode(Path(sys.argv[1], 'open.png'))\n"  # imports what it needs while that may be read
            "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "print(os.geteuid() != 0, decode(Path(sys.argv[1], 'open.png')).shape)\n"
            "try: decode(Path(sys.argv[1], 'closed.png'))\n"
            "except UnreadableImageError as error: print(error)"
        )
        command = [sys.executable, "-c", code, name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.stdout == f"True (48, 64, 3)\n{folder / 'closed.png'}: cannot be read: permission is denied.\n", (
        done.stderr
    )


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}


def bomb(width: int, height: int) -> bytes:
    """A real one: 1-bit black, a few kilobytes of PNG."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_from_its_header() -> None:
    content = bomb(20_000, 20_000)
    message = refusal(content, name="bomb.png")
    assert message == ("bomb.png: 20000 x 20000 = 400 million pixels, above the limit of 179 million; resize it first.")
    assert refusal(content[:60], name="bomb.png") == message  # no pixel is there to be decoded
    assert probe(content, "bomb.png").width == 20_000


def test_a_jpeg_bomb_is_refused_from_its_header() -> None:
    content = bytearray(saved(quarters(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 30_000, 40_000)
    assert "40000 x 30000 = 1200 million pixels" in refusal(bytes(content), at_least=(8, 8))


@pytest.mark.parametrize("format", list(WRITTEN))
def test_the_limit_is_exact(format: str) -> None:
    content = saved(quarters(), format)
    assert decode(content, max_pixels=48 * 64).shape == (48, 64, 3)
    assert "above the limit" in refusal(content, max_pixels=48 * 64 - 1)


def test_our_limit_is_pillows_and_its_warning_is_not_heard() -> None:
    assert 2 * Image.MAX_IMAGE_PIXELS == MAX_PIXELS  # it warns at one times its limit, and raises at two
    code = "import sys; from handlens.data.decode import *\nprint(decode(sys.stdin.buffer.read()).sum())"
    command = [sys.executable, "-W", "error", "-c", code]
    content = saved(Image.new("1", (10_000, 10_000)), "TIFF", compression="group4")  # Pillow alone would warn
    done = subprocess.run(command, input=content, capture_output=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")


# Small files of every kind. A flipped byte may give another image, or a refusal; never another exception.
SMALL = {
    "JPEG": saved(quarters(), "JPEG", exif=exif(6)),
    "JPEG progressive": saved(quarters(), "JPEG", progressive=True),
    "JPEG CMYK": saved(quarters().convert("CMYK"), "JPEG"),
    "PNG": saved(quarters(), "PNG", exif=exif(6)),
    "PNG palette": saved(quarters().quantize(8), "PNG", transparency=3),
    "GIF": saved(quarters(), "GIF", save_all=True, append_images=[quarters().rotate(180)]),
    "WebP": saved(quarters(), "WEBP", exif=exif(6)),
    "BMP": saved(quarters().quantize(8), "BMP"),
    "TIFF": saved(quarters(), "TIFF"),
    "TIFF LZW": saved(quarters(), "TIFF", compression="tiff_lzw", tiffinfo={274: 6}),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow says what it thinks of the tags
@pytest.mark.parametrize("kind", SMALL)
def test_mutated_files_are_read_or_refused(kind: str) -> None:
    rng = random.Random(kind)
    seen: Counter[str] = Counter()
    for _ in range(300):
        content = bytearray(SMALL[kind])
        if rng.random() < 0.3:
            del content[rng.randrange(1, len(content)) :]
        else:
            span = len(content) if rng.random() < 0.5 else min(len(content), 160)  # headers are where it hurts
            for _ in range(rng.choice((1, 1, 2, 5))):
                content[rng.randrange(span)] = rng.choice((0, 255, rng.randrange(256)))
        for read in (lambda c: decode(c, max_pixels=1_000_000, at_least=(8, 8)), lambda c: probe(c, "x")):
            try:
                read(bytes(content))
                seen["read"] += 1
            except UnreadableImageError as error:
                assert "\n" not in str(error) and len(str(error)) < 300
                seen["refused"] += 1
    assert seen["read"] > 20 and seen["refused"] > 20, seen


# --- Company ------------------------------------------------------------------------------------------------------


def test_threads_do_not_disturb_each_other() -> None:
    contents = [content for content in SMALL.values() for _ in range(8)]
    random.Random(0).shuffle(contents)
    alone = [decode(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode, contents))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_jpeg_needs_neither_torch_nor_pillows_readers() -> None:
    code = (
        "import sys; from handlens.data.decode import decode; print(decode(sys.stdin.buffer.read()).shape)\n"
        "print([m for m in ('torch', 'torchvision', 'pi_heif', 'PIL.PngImagePlugin') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=SMALL["JPEG"], capture_output=True, env=environment())
    assert done.stdout == b"(64, 48, 3)\n[]\n", done.stderr
