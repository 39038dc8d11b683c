"""From the files that a set is published in to images and labels as handlens reads them.

Each takes (files, new folder, progress); progress takes (done, total). Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import random
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.errors import InputError
from handlens.files import write_text
from handlens.names import as_yaml
from handlens.reading.files import read_bytes
from handlens.reading.text import read_text

Progress = Callable[[int, int], None]

READ = 1024 * 1024  # bytes at once
CIFAR_IMAGE = 1 + 3 * 32 * 32  # bytes: a label, then red, green and blue by rows
PETS_SEED, PETS_VALIDATION = 1337, 1000  # the Keras example's, with Python's random
CATS_DOGS_SPLITS = {"train": range(1000), "validation": range(1000, 1500), "test": range(1500, 2500)}


def idx(files: Sequence[Path], folder: Path, progress: Progress, *, names: Sequence[str]) -> None:
    """MNIST's form: images and labels of the training part, then of the test. -> train/<class>/00000.png ...

    Raises:
        InputError: a file is not in that form, or there are not as many labels as images.
    """
    parts = {"train": files[:2], "test": files[2:]}
    read = {part: (_idx(images, axes=3), _idx(labels, axes=1)) for part, (images, labels) in parts.items()}
    total = sum(len(images) for images, _ in read.values())
    done = 0
    for part, (images, labels) in read.items():
        if len(images) != len(labels) or labels.max(initial=0) >= len(names):
            raise InputError(f"the {part} part has {len(images)} images, and labels that do not fit them.")
        done = _write(images, labels, folder / part, names, lambda count: progress(count, total), done)


def cifar10(files: Sequence[Path], folder: Path, progress: Progress) -> None:
    """The binary form: 10,000 images per file. -> train/<class>/00000.png and test/<class>/..."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _extract(files[0], Path(scratch))
        root = Path(scratch) / "cifar-10-batches-bin"
        names = read_text(root / "batches.meta.txt", "label").split()
        batches = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
        read = {part: np.concatenate([_cifar_batch(root / name) for name in found]) for part, found in batches.items()}
        total, done = sum(map(len, read.values())), 0
        for part, rows in read.items():
            images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            done = _write(images, rows[:, 0], folder / part, names, lambda count: progress(count, total), done)


def oxford_pets(files: Sequence[Path], folder: Path, progress: Progress) -> None:
    """-> images/train/*.jpg, masks/train/*.png and the same of validation; handlens.yaml names the trimap's numbers.

    The split is the Keras example's: paths sorted, shuffled by Python's random with seed 1337, the last 1,000 validate.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for file in files:
            _extract(file, Path(scratch))
        images = sorted(path for path in (Path(scratch) / "images").iterdir() if path.suffix == ".jpg")
        random.Random(PETS_SEED).shuffle(images)
        for done, image in enumerate(images, start=1):
            part = "train" if done <= len(images) - PETS_VALIDATION else "validation"
            mask = Path(scratch) / "annotations/trimaps" / f"{image.stem}.png"
            _move(image, folder / "images" / part / image.name)
            _move(mask, folder / "masks" / part / mask.name)
            progress(done, len(images))
    settings = {
        "format": "masks",
        "class_names": ["pet", "background", "border"],
        "masks": {"values": {1: 0, 2: 1, 3: 2}},
    }
    write_text(folder / "handlens.yaml", as_yaml(settings))


def archives(files: Sequence[Path], folder: Path, progress: Progress, *, inside: str = "") -> None:
    """What is in the archives, or in one folder of them, as it is."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for done, file in enumerate(files, start=1):
            _extract(file, Path(scratch))
            progress(done, len(files))
        root = Path(scratch) / inside
        if not root.is_dir():
            raise InputError(f"{files[0].name} has no folder {inside}; it is not the published archive.")
        for entry in sorted(root.iterdir()):
            _move(entry, folder / entry.name)


def coco(files: Sequence[Path], folder: Path, progress: Progress, *, splits: Sequence[str]) -> None:
    """-> <split>/*.jpg and annotations/instances_<split>.json, without the other annotations."""
    archives(files, folder, progress)
    wanted = {f"instances_{split}.json" for split in splits}
    for path in (folder / "annotations").iterdir():
        if path.name not in wanted:
            path.unlink()


def cats_vs_dogs(files: Sequence[Path], folder: Path, progress: Progress) -> None:
    """-> train/cat/0.jpg ... by the numbers in their names; `check` names the few that are damaged."""
    total = 2 * sum(map(len, CATS_DOGS_SPLITS.values()))
    done = 0
    with zipfile.ZipFile(files[0]) as archive:
        for part, numbers in CATS_DOGS_SPLITS.items():
            for kind in ("Cat", "Dog"):
                (folder / part / kind.lower()).mkdir(parents=True)
                for number in numbers:
                    done += 1
                    progress(done, total)
                    name = f"PetImages/{kind}/{number}.jpg"
                    (folder / part / kind.lower() / f"{number}.jpg").write_bytes(archive.read(name))


def _idx(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """An array of bytes: two zeros, 8 for uint8, the number of axes, each size in four bytes, then the values."""
    content = read_bytes(path, "weights")
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:4] != bytes([0, 0, 8, axes]):
        raise InputError(f"{path.name} is not in MNIST's form (idx) with {axes} {'axis' if axes == 1 else 'axes'}.")
    shape = np.frombuffer(content, dtype=">u4", count=axes, offset=4).astype(int)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    if values.size != shape.prod():
        raise InputError(f"{path.name} is cut off: {values.size} of {shape.prod()} values are there.")
    return values.reshape(shape)


def _cifar_batch(path: Path) -> NDArray[np.uint8]:
    content = np.fromfile(path, dtype=np.uint8)
    if content.size % CIFAR_IMAGE:
        raise InputError(f"{path.name} is cut off: {content.size} bytes are no number of images.")
    return content.reshape(-1, CIFAR_IMAGE)


def _write(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    folder: Path,
    names: Sequence[str],
    progress: Callable[[int], None],
    done: int,
) -> int:
    """<class>/<place>.png each; returns `done` and as many more."""
    for name in names:
        (folder / name).mkdir(parents=True)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / names[label] / f"{place:05d}.png", compress_level=1)
        done += 1
        progress(done)
    return done


def _extract(archive: Path, folder: Path) -> None:
    """Raises InputError where it is no zip or tar, or is damaged."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)  # names that lead outside are made harmless by zipfile
        else:
            with tarfile.open(archive) as packed:
                _extract_files(packed, folder)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{archive.name} cannot be unpacked: {error}.") from None


def _extract_files(packed: tarfile.TarFile, folder: Path) -> None:
    """The files of a tar, and nothing else of it: with no links made, a name is all that could lead outside.

    tarfile's filter does the same, but Python has it from 3.11.4 on, and Debian 12 has 3.11.2.

    Raises:
        tarfile.TarError: a name would be unpacked outside the folder.
        EOFError, OSError, zlib.error: the compressed file is cut off or damaged.
    """
    folder = folder.resolve()
    for member in packed:
        content = packed.extractfile(member) if member.isfile() else None
        if content is None:
            continue
        target = (folder / member.name).resolve()
        if not target.is_relative_to(folder):
            raise tarfile.TarError(f"{member.name} would be unpacked outside the folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)
    if packed.fileobj is not None:
        while packed.fileobj.read(READ):  # on to the checksum behind what a tar ends with
            pass


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.move(source, target)
    except FileNotFoundError:
        raise InputError(f"the archives lack {source.name}; they are not the published ones.") from None
