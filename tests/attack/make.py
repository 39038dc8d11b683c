"""What the cases are made from: images, labels and files that are none."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Make = Callable[[Path], Any]
GOOD = 2  # images per class


def photo(seed: int = 0, *, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """(width, height); coarse noise, so that no two are duplicates."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(size).convert(mode)


def encoded(format: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or photo()).save(stream, format, **options)
    return stream.getvalue()


def classes(folder: Path, *names: str, count: int = GOOD) -> None:
    """Folders of good images."""
    for place, name in enumerate(names or ("a", "b")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            photo(100 * place + number).save(folder / name / f"good{number}.png")


def flat(folder: Path, *, count: int = GOOD) -> None:
    for number in range(count):
        photo(number).save(folder / f"good{number}.png")


def with_file(name: str, content: bytes | Make, *, base: Make = flat) -> Make:
    """Good images and one file more; `content` may also make it, given its path."""

    def make(folder: Path) -> None:
        base(folder)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content)

    return make


def lazily(build: Callable[[], bytes | str]) -> Make:
    """A file whose content takes long to make, or much room: made when it is needed."""

    def make(path: Path) -> None:
        content = build()
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def all_of(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


# --- files that are none -----------------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(target: str) -> Make:
    return lambda path: path.symlink_to(target)


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.parent.parent / "pipe")
    path.symlink_to(path.parent.parent / "pipe")


def folder_there(path: Path) -> None:
    path.mkdir()


def listening(path: Path) -> None:
    """A socket of the file system."""
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def sparse(head: bytes, size: int) -> Make:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(size)

    return make


NOT_FILES: dict[str, Make] = {
    "a pipe": fifo,
    "a link to a pipe": link_to_fifo,
    "a socket": listening,
    "a link to /dev/zero": link("/dev/zero"),
    "a link to /dev/tty": link("/dev/tty"),
    "a link to /proc/self/mem": link("/proc/self/mem"),
    "a link to /proc/kmsg": link("/proc/kmsg"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a broken link": link("nowhere"),
    "a folder": folder_there,
    "10 GB of holes": lambda path: sparse(b"", 10 << 30)(path),
}


# --- images ------------------------------------------------------------------------------------------------------


def png(
    width: int, height: int, *, bits: int = 8, kind: int = 0, rows: bytes | None = None, more: Sequence[bytes] = ()
) -> bytes:
    """A PNG of zeros of any size, compressed as it is made: a gigapixel needs little room.

    Args:
        kind: PNG's color type: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA.
        rows: the compressed pixels, if not those of a whole black image. more: chunks before them.
    """
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    if rows is None:
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
        line = bytes(1 + (width * samples * bits + 7) // 8)
        packer = zlib.compressobj(1)
        together = max(1, (1 << 20) // len(line))
        parts = [packer.compress(line * min(together, height - top)) for top in range(0, height, together)]
        rows = b"".join(parts) + packer.flush()
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def tiff(entries: Sequence[tuple[int, int, int, int]], *, following: int = 0, tail: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory at 8: (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + packed + struct.pack("<I", following) + tail
    )


TIFF_PLAIN = [
    (256, 4, 1, 8),
    (257, 4, 1, 8),
    (258, 3, 1, 8),
    (259, 3, 1, 1),
    (262, 3, 1, 1),
    (273, 4, 1, 200),
    (277, 3, 1, 1),
    (278, 4, 1, 8),
    (279, 4, 1, 64),
]


def tiff_with(**changes: int) -> bytes:
    """8 x 8 gray, with values of tags (t256=...) changed."""
    entries = [(tag, kind, count, changes.get(f"t{tag}", value)) for tag, kind, count, value in TIFF_PLAIN]
    content = tiff(entries, following=changes.get("following", 0))
    return content + bytes(200 - len(content)) + bytes(range(64))


# --- labels ------------------------------------------------------------------------------------------------------


def voc_xml(*objects: str, head: str = "", size: tuple[int, int] = (48, 40)) -> str:
    return (
        f"{head}<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"{''.join(objects)}</annotation>"
    )


def voc_object(name: str = "a", *corners: object) -> str:
    left, top, right, bottom = corners or (2, 2, 30, 30)
    return (
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
    )


def voc(folder: Path) -> None:
    """Two good images with a box each."""
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    for number in range(GOOD):
        photo(number).save(folder / "JPEGImages" / f"good{number}.png")
        (folder / "Annotations" / f"good{number}.xml").write_text(voc_xml(voc_object()))


def yolo(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number in range(GOOD):
        photo(number).save(folder / "images" / f"good{number}.png")
        (folder / "labels" / f"good{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (folder / "data.yaml").write_text("names: [a, b]\n")


def coco_content() -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": f"good{number}.png", "width": 48, "height": 40} for number in range(GOOD)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [2, 2, 20, 20], "area": 400, "iscrowd": 0}
            for number in range(GOOD)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }


def masks(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for number in range(GOOD):
        photo(number).save(folder / "images" / f"good{number}.png")
        Image.fromarray(np.eye(40, 48, dtype=np.uint8)).save(folder / "masks" / f"good{number}.png")


def table(text: str | bytes, name: str = "labels.csv") -> Make:
    def make(folder: Path) -> None:
        flat(folder, count=4)
        content = text.encode() if isinstance(text, str) else text
        (folder / name).write_bytes(content)

    return make


TABLE = "file,label\ngood0.png,a\ngood1.png,b\ngood2.png,a\ngood3.png,b\n"
