"""Attacks by what an image file holds, claims or is."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from attack.case import CHECK, PREDICT, Case, Make, Outcome
from attack.make import (
    GOOD,
    NOT_FILES,
    chunk,
    encoded,
    flat,
    half,
    lazily,
    photo,
    png,
    sparse,
    tiff_with,
    with_file,
)

ONE = ("predict", "{run}", "{data}/bad.jpg", "--json")


def _good_answered(outcome: Outcome, *, bad: int) -> None:
    lines = outcome.lines()
    assert sum("error" not in line for line in lines) == len(lines) - bad >= GOOD, lines
    assert sum("error" in line for line in lines) == bad, lines


def refused(name: str, file: str, content: bytes | Make, *, says: Sequence[str] = (), also: bool = True) -> list[Case]:
    """One bad file among good ones: it is named and the rest is answered, in prediction and in the audit."""
    make = with_file(file, content)
    named = (file.replace(".", r"\."), *says)
    verify = partial(_good_answered, bad=1)
    cases = [Case(f"{name}: predict", make, PREDICT, exit=(1,), says=named, verify=verify)]
    return [*cases, Case(f"{name}: check", make, CHECK, exit=(1,), says=named)] if also else cases


def answered(
    name: str, file: str, content: bytes | Make, *, says: Sequence[str] = (), also: bool = False
) -> list[Case]:
    """A strange image that is one all the same."""
    make = with_file(file, content)
    cases = [
        Case(f"{name}: predict", make, PREDICT, exit=(0,), says=says, verify=partial(_good_answered, bad=0), seconds=60)
    ]
    return [*cases, Case(f"{name}: check", make, CHECK, exit=(0, 1), seconds=60)] if also else cases


def either(name: str, file: str, content: bytes | Make) -> list[Case]:
    """May be read or refused, within time and memory, and the rest is answered."""

    def verify(outcome: Outcome) -> None:
        lines = outcome.lines()
        assert sum("error" not in line for line in lines) >= GOOD, lines
        assert len(lines) == GOOD + 1, lines

    return [Case(f"{name}: predict", with_file(file, content), PREDICT, exit=(0, 1), verify=verify, seconds=60)]


def _several(count: int, content: Callable[[], bytes]) -> Make:
    def make(folder: Path) -> None:
        made = content()
        for number in range(count):
            (folder / f"large{number}.png").write_bytes(made)
        flat(folder)

    return make


def _frames(count: int) -> list[Image.Image]:
    return [photo(number) for number in range(count)]


def _exif(content: bytes) -> bytes:
    block = b"Exif\0\0" + content
    jpeg = encoded("JPEG")
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]


def _flipped(content: bytes, *, every: int) -> bytes:
    damaged = bytearray(content)
    for place in range(40, len(damaged), every):
        damaged[place] ^= 0x55
    return bytes(damaged)


LARGE_NOISE = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)


def _bomb() -> bytes:
    """200 MB of zeros in 200 kB."""
    return zlib.compress(bytes(200 << 20), 9)


CASES: list[Case] = [
    *refused("an empty file", "bad.jpg", b"", says=["empty"]),
    *refused("text", "bad.jpg", b"this is no image\n" * 9),
    *refused("a web page", "bad.png", b"<!DOCTYPE html><html><body>403 Forbidden</body></html>"),
    *refused("zeros", "bad.png", bytes(4096)),
    *refused("an archive", "bad.jpg", b"PK\x03\x04" + bytes(100)),
    *refused("SVG", "bad.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    *refused("AVIF", "bad.jpg", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40)),
    *refused("half a JPEG", "bad.jpg", half(encoded("JPEG")), says=["truncated"]),
    *refused("half a PNG", "bad.png", half(encoded("PNG")), says=["truncated"]),
    *refused("half a WebP", "bad.webp", half(encoded("WEBP", Image.fromarray(LARGE_NOISE)))),
    *refused("half a GIF", "bad.gif", half(encoded("GIF"))),
    *refused("half a BMP", "bad.bmp", half(encoded("BMP")), says=["truncated"]),
    *refused("half a TIFF", "bad.tif", half(encoded("TIFF", compression="tiff_lzw"))),
    *refused("a JPEG's first bytes", "bad.jpg", encoded("JPEG")[:24], also=False),
    *refused("a PNG's first bytes", "bad.png", encoded("PNG")[:40], also=False),
    *refused("a HEIC's first bytes", "bad.heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(60), also=False),
    *refused("a JPEG of a damaged scan", "bad.jpg", _flipped(encoded("JPEG"), every=7), also=False),
    *refused("a PNG with a wrong checksum", "bad.png", _flipped(encoded("PNG"), every=97), also=False),
    *refused("a PNG that claims 2^31 x 2^31", "bad.png", png(2**31 - 1, 2**31 - 1, rows=b"x")),
    *refused("a PNG of no width", "bad.png", png(0, 10, rows=b"x"), also=False),
    *refused(
        "a PNG of 20,000 x 20,000 bits", "bad.png", lazily(lambda: png(20000, 20000, bits=1)), says=["million pixels"]
    ),
    *refused("a PNG that claims 30,000 x 30,000 RGBA", "bad.png", png(30000, 30000, kind=6, rows=b"x"), also=False),
    *refused(
        "a BMP that claims 30,000 x 30,000",
        "bad.bmp",
        encoded("BMP")[:18] + (30000).to_bytes(4, "little") * 2 + encoded("BMP")[26:],
        also=False,
    ),
    *refused(
        "a GIF that claims 65,535 x 65,535",
        "bad.gif",
        encoded("GIF")[:6] + b"\xff\xff\xff\xff" + encoded("GIF")[10:],
        also=False,
    ),
    *refused("a TIFF that claims 10^9 columns", "bad.tif", tiff_with(t256=10**9), also=False),
    *refused("a TIFF of no samples", "bad.tif", tiff_with(t277=0), also=False),
    *refused("a TIFF with strips outside the file", "bad.tif", tiff_with(t273=2**31), also=False),
    *refused("a TIFF of an unknown compression", "bad.tif", tiff_with(t259=60000), also=False),
    *refused("a TIFF of float pixels", "bad.tif", encoded("TIFF", Image.fromarray(np.ones((9, 9), np.float32)))),
    *refused("a TIFF of 4 GB rows", "bad.tif", tiff_with(t278=2**32 - 1, t279=2**32 - 1, t257=2**31), also=False),
    *either("a TIFF whose directory follows itself", "odd.tif", tiff_with(following=8)),
    *either(
        "a PNG with 200 MB of compressed text",
        "odd.png",
        lazily(lambda: png(9, 9, more=[chunk(b"zTXt", b"comment\0\0" + _bomb())])),
    ),
    *either(
        "a PNG with a profile of 200 MB",
        "odd.png",
        lazily(lambda: png(9, 9, more=[chunk(b"iCCP", b"icc\0\0" + _bomb())])),
    ),
    *either(
        "a PNG with a million text blocks",
        "odd.png",
        lazily(lambda: png(9, 9, more=[chunk(b"tEXt", b"a\0b")] * 1_000_000)),
    ),
    *either("a PNG whose pixels unpack to 200 MB more", "odd.png", lazily(lambda: png(9, 9, rows=_bomb()))),
    *answered("a JPEG with damaged EXIF", "odd.jpg", _exif(b"MM\0*\0\0\0\x08\xff\xff" + bytes(40))),
    *answered(
        "a JPEG with EXIF that points at itself",
        "odd.jpg",
        _exif(b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0"),
    ),
    *answered("a JPEG of one pixel", "odd.jpg", encoded("JPEG", photo(size=(1, 1))), also=True),
    *answered("a JPEG of 1 x 65,000", "odd.jpg", encoded("JPEG", photo(size=(1, 65000)))),
    *answered("a JPEG of 65,000 x 1", "odd.jpg", encoded("JPEG", photo(size=(65000, 1)))),
    *answered("a PNG of 1 x 20,000", "odd.png", png(1, 20000), also=True),
    *answered("a PNG of 20,000 x 1", "odd.png", png(20000, 1), also=True),
    *either("a PNG of 1 x 10^7", "odd.png", lazily(lambda: png(1, 10**7))),
    *either("a PNG of 10^7 x 1", "odd.png", lazily(lambda: png(10**7, 1))),
    *either("a PNG of 2 x 8 x 10^7", "odd.png", lazily(lambda: png(2, 8 * 10**7))),
    *answered(
        "an animation of 500 frames",
        "odd.gif",
        lazily(lambda: encoded("GIF", _frames(500)[0], save_all=True, append_images=_frames(500)[1:])),
    ),
    *answered(
        "an animated WebP",
        "odd.webp",
        encoded("WEBP", _frames(5)[0], save_all=True, append_images=_frames(5)[1:]),
    ),
    *answered(
        "an animated PNG",
        "odd.png",
        encoded("PNG", _frames(5)[0], save_all=True, append_images=_frames(5)[1:]),
    ),
    *answered("a CMYK JPEG", "odd.jpg", encoded("JPEG", photo(mode="CMYK"))),
    *answered("gray and alpha", "odd.png", encoded("PNG", photo(mode="LA"))),
    *answered("a palette with a transparent color", "odd.png", encoded("PNG", photo(mode="P"), transparency=3)),
    *answered(
        "16-bit gray", "odd.png", encoded("PNG", Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70))
    ),
    *answered(
        "16-bit gray in a TIFF",
        "odd.tif",
        encoded("TIFF", Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70)),
    ),
    *answered("a progressive JPEG", "odd.jpg", encoded("JPEG", progressive=True)),
    *answered("a PNG followed by something else", "odd.png", encoded("PNG") + bytes(5000)),
    *answered("a JPEG called PNG", "odd.png", encoded("JPEG")),
    *answered("a JPEG of a name without extension", "odd", encoded("JPEG")),
    *either("RGBA of 144 megapixels", "odd.png", lazily(lambda: png(12000, 12000, kind=6))),
    *either("16-bit RGBA of 144 megapixels", "odd.png", lazily(lambda: png(12000, 12000, bits=16, kind=6))),
    *either("16-bit gray of 144 megapixels", "odd.png", lazily(lambda: png(12000, 12000, bits=16))),
    *either(
        "a palette of 169 megapixels",
        "odd.png",
        lazily(lambda: png(13000, 13000, kind=3, more=[chunk(b"PLTE", bytes(768))])),
    ),
    Case(
        "six images of 170 megapixels at once: predict",
        _several(6, lambda: png(13000, 13000, kind=2)),
        PREDICT,
        exit=(0, 1),
        seconds=120,
    ),
    *[
        Case(
            f"three images of 170 megapixels: {command[0]}{next((f' {w}' for w in command if w.startswith('--')), '')}",
            _several(3, lambda: png(13000, 13000, kind=2)),
            command,
            exit=(0, 1),
            seconds=200,
        )
        for command in (
            ("show", "{data}", "--out", "{out}.png"),
            ("predict", "{run}", "{data}", "--sheet", "{out}.png"),
            ("predict", "{run}", "{data}", "--annotate", "{out}"),
        )
    ],
    Case(
        "six images of 170 megapixels at once: check",
        _several(6, lambda: png(13000, 13000, kind=2)),
        CHECK,
        exit=(0, 1),
        seconds=200,
    ),
    Case(
        "show of a thin image", with_file("odd.png", png(1, 20000)), ("show", "{data}", "--out", "{out}.png"), exit=(0,)
    ),
    Case(
        "show of an image that cannot be read",
        with_file("bad.jpg", b"no"),
        ("show", "{data}", "--out", "{out}.png"),
        exit=(0,),
    ),
    Case(
        "annotated copies of a thin image",
        with_file("odd.png", png(1, 20000)),
        ("predict", "{run}", "{data}", "--annotate", "{out}"),
        exit=(0,),
    ),
    Case(
        "a contact sheet of thin images",
        with_file("odd.png", png(20000, 1)),
        ("predict", "{run}", "{data}", "--sheet", "{out}.png"),
        exit=(0,),
    ),
    # What is no regular file, named as an image: in a folder, and given by its name.
    *[
        Case(
            f"{name} in a folder: predict",
            with_file("bad.jpg", make),
            PREDICT,
            exit=(0, 1),
            verify=lambda outcome: _good_answered(outcome, bad=len(outcome.lines()) - GOOD),
        )
        for name, make in NOT_FILES.items()
    ],
    *[
        Case(f"{name} in a folder: check", with_file("bad.jpg", make), CHECK, exit=(0, 1))
        for name, make in NOT_FILES.items()
    ],
    *[
        Case(f"{name} given by name: predict", with_file("bad.jpg", make), ONE, exit=(1, 2), says=[r"bad\.jpg"])
        for name, make in NOT_FILES.items()
    ],
    Case(
        "a link to /dev/zero without extension",
        with_file("bad", NOT_FILES["a link to /dev/zero"]),
        PREDICT,
        exit=(0, 1),
    ),
    Case(
        "10 GB that begin like a JPEG",
        with_file("bad.jpg", sparse(encoded("JPEG")[:400], 10 << 30)),
        PREDICT,
        exit=(1,),
        says=[r"bad\.jpg"],
    ),
    Case(
        "10 GB that begin like a PNG",
        with_file("bad.png", sparse(encoded("PNG")[:60], 10 << 30)),
        CHECK,
        exit=(1,),
        says=[r"bad\.png"],
    ),
    Case(
        "/dev/stdin as an image", flat, ("predict", "{run}", "/dev/stdin", "--json"), exit=(1, 2), says=["/dev/stdin"]
    ),
    Case("/dev/zero as an image", flat, ("predict", "{run}", "/dev/zero", "--json"), exit=(1, 2), says=["/dev/zero"]),
    Case(
        "/proc/self/environ as an image",
        flat,
        ("predict", "{run}", "/proc/self/environ"),
        exit=(1, 2),
        says=["environ"],
    ),
    Case("the folder /proc as images", flat, ("predict", "{run}", "/proc/self/fd"), exit=(1, 2)),
]
