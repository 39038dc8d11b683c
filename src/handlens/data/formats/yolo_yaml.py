"""What stands beside YOLO's labels: the yaml or classes.txt with the names of the classes, and the splits."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from handlens.data.config import FILE_NAME, DataConfig
from handlens.data.formats.assemble import named
from handlens.data.formats.class_names import listed_names
from handlens.data.formats.label_files import all_or_none, remark, split_by_folder
from handlens.data.listing import Tree
from handlens.data.record import IMAGE_EXTENSIONS, Remark, Split
from handlens.errors import InputError
from handlens.reading.parsed import read_yaml
from handlens.reading.text import read_text, read_text_start

START = 64 * 1024  # bytes that are looked at to see whether a text holds boxes
SPLIT_KEYS: dict[str, Split] = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}


def description(root: Path) -> tuple[dict[str, Any], Path | None]:
    """The yaml with `names` in the folder, and where it is.

    Raises:
        InputError: there are several.
    """
    found: list[tuple[dict[str, Any], Path]] = []
    for path in sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml")):
        if path.name == FILE_NAME or path.name.startswith("."):
            continue
        content = read_yaml(path)
        if isinstance(content, dict) and "names" in content:
            found.append((content, path))
    if len(found) > 1:
        raise InputError(f"{' and '.join(path.name for _, path in found)} both have names; keep one of them.")
    return found[0] if found else ({}, None)


def class_names_of(
    described: dict[str, Any], source: Path | None, root: Path, config: DataConfig
) -> tuple[dict[int, str] | None, list[str]]:
    """Number -> name, None where there are none; and notes."""
    if source is not None:
        names = described["names"]
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not all(isinstance(n, int) and isinstance(v, str) for n, v in names.items()):
            raise InputError(f"names in {source} must be a list of names, or numbers with their names.")
        return names, [f"class names from {source.name}"]
    for path in (root / "classes.txt", root / "labels" / "classes.txt"):
        if path.is_file() and not has_rows(path):
            lines = map(str.strip, read_text(path, "label").splitlines())
            return {n: name for n, name in enumerate(lines) if name}, [f"class names from {path.name}"]
    listed = listed_names(config)
    if listed:
        return dict(enumerate(listed)), []
    return None, ["classes are named after the numbers found; set class_names in handlens.yaml to name them"]


def splits_of(
    tree: Tree, root: Path, images: Sequence[Path], described: dict[str, Any], source: Path | None
) -> tuple[dict[Path, Split | None], list[Remark]]:
    """The split of each image that is to be read, and remarks.

    Raises:
        InputError: without a yaml, some folders tell a split and some do not.
    """
    by_folder = {image: split_by_folder(tree, image) for image in images}
    stated = {key: described[key] for key in SPLIT_KEYS if described.get(key)}
    if source is None or not stated:
        all_or_none(list(by_folder.values()), str(root))
        return by_folder, []
    base = source.parent / str(described.get("path") or ".")
    entries = {key: list(map(str, entry if isinstance(entry, list) else [entry])) for key, entry in stated.items()}
    missing = [name for listed in entries.values() for name in listed if not (base / name).exists()]
    places = {key: [base / name for name in listed if (base / name).exists()] for key, listed in entries.items()}
    remarks = []
    if missing:
        message = f"{source.name} names {named(missing)}, which do not exist; splits are taken from folder names"
        remarks.append(Remark(code="split_missing", message=message, level="note", lost=False))
    if not any(places.values()):
        all_or_none(list(by_folder.values()), str(root))
        return by_folder, remarks
    splits: dict[Path, Split | None] = dict.fromkeys(images)
    real = {image.resolve(): image for image in images}
    twice: list[str] = []
    absent: list[str] = []
    for key, paths in places.items():
        for path in paths:
            inside, without = _within(path, base, real.keys())
            absent += without
            for image in (real[p] for p in inside):
                if splits[image] not in (None, SPLIT_KEYS[key]):
                    twice.append(tree.id(image))
                splits[image] = splits[image] or SPLIT_KEYS[key]
    splits = {image: split or by_folder[image] for image, split in splits.items()}
    outside = [tree.id(image) for image, split in splits.items() if split is None]
    if twice:
        what = f"images in two splits of {source.name}, kept in the first"
        message = f"{what}: {named(twice)}"
        remarks.append(Remark(code="two_splits", message=message, files=tuple(twice), lost=False))
    if absent:
        remarks.append(remark("listed_missing", f"skipped, in a list of {source.name} and not found", absent))
    if outside:
        remarks.append(remark("not_listed", f"skipped, in no split of {source.name}", outside))
    return {image: split for image, split in splits.items() if split is not None}, remarks


def _within(place: Path, base: Path, images: Collection[Path]) -> tuple[list[Path], list[str]]:
    """Those of the images in a folder, in a list of files, or the one image; and lines of the list without one."""
    resolved = place.resolve()
    if place.is_dir():
        return [image for image in images if image.is_relative_to(resolved)], []
    if place.suffix.lower() in IMAGE_EXTENSIONS:
        return [image for image in images if image == resolved], []
    found: dict[Path, None] = {}
    absent: list[str] = []
    for line in filter(None, map(str.strip, read_text(place, "annotations").splitlines())):
        stated = [path for path in ((base / line).resolve(), (place.parent / line).resolve()) if path in images]
        found |= dict.fromkeys(stated)
        if not stated:
            absent.append(line)
    return list(found), absent


def is_row(line: str) -> bool:
    """Whether a line is a class and numbers: also one with commas, or NaN, which `read` refuses with a reason."""
    try:
        numbers = [float(cell) for cell in re.split(r"[\s,;]+", line.strip())]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0].is_integer()


def has_rows(text: Path) -> bool:
    """Whether a line of a text is a box; of one that cannot be read, none is known to be."""
    return any(map(is_row, first_lines(text)))


def first_lines(text: Path) -> list[str]:
    """Whole lines at the beginning of a text that may be anything; none where it cannot be read."""
    start = read_text_start(text, START)
    lines = start.splitlines()
    return lines[:-1] if len(start) >= START // 4 else lines  # the last may be cut
