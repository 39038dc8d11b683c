"""YOLO: a text per picture, a line per box: class, centre x, centre y, width, height as fractions of the picture.

Names come from a yaml (`names`, a list or a mapping) or from classes.txt. Its folders `train`, `val` and `test` are
followed where they exist; archives often come without them, and then the folders' names tell the splits.

Numbers up to 1 % outside 0 to 1 are rounding and clipped; others are an error, since whoever wrote them meant pixels.
A box that reaches over the picture's edge is clipped: fractions of a picture do not lie outside it.

Source: docs.ultralytics.com/datasets/detect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from handlens.data.config import FILE_NAME, DataConfig
from handlens.data.decode import UnreadablePictureError
from handlens.data.formats.assemble import Found, assemble_boxes, corners, listed_names, named, numbered_classes
from handlens.data.formats.label_files import (
    PICTURE_FOLDERS,
    all_or_none,
    pair,
    picture_size,
    pictures_below,
    split_by_folder,
)
from handlens.data.listing import Tree
from handlens.data.record import Box, Dataset, Split
from handlens.errors import InputError

FORMAT = "yolo"
LABEL_FOLDERS = frozenset({"label", "labels"})
TOLERANCE = 0.01  # of the picture
SPLIT_KEYS: dict[str, Split] = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "readme.txt")


def recognise(path: Path) -> bool:
    """Whether a text in a folder for labels, or beside its picture, begins with five or six numbers."""
    tree = Tree(path)
    texts = _texts(tree, path)
    if not texts:
        return False
    pairs = pair(tree, tree.pictures(path), texts, folders=LABEL_FOLDERS).pairs
    lines = (line for _, text in pairs[:20] for line in text.read_text("utf-8", "replace").splitlines())
    first = next((line for line in lines if line.strip()), None)
    return first is not None and _is_row(first)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no labels; a line that is not five or six numbers, or outside the picture; a class without a name;
            no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    described, source = _description(tree, path)
    pictures, notes = pictures_below(tree, path)
    inside = [p for p in pictures if any(part.lower() in PICTURE_FOLDERS for part in tree.id(p).split("/")[:-1])]
    pairs = pair(tree, inside or pictures, _texts(tree, path), folders=LABEL_FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{path} has no picture with a text of the same name; put them into images/ and labels/.")
    splits, said = _splits(tree, path, [p for p, _ in pairs.pairs] + pairs.pictures, described, source)
    notes = [*said, *pairs.orphans(tree, what="a text of boxes", pictures=False), *notes]
    if pairs.pictures:
        shown = named([tree.id(picture) for picture in pairs.pictures])
        notes.append(f"pictures without a text of boxes, taken as pictures without objects: {shown}")

    reader = _Reader(tree)
    found = [Found(path=p, boxes=reader.boxes(p, text), split=splits[p]) for p, text in pairs.pairs]
    found += [Found(path=p, boxes=(), split=splits[p]) for p in pairs.pictures]
    labels = {box.label for item in found for box in item.boxes or ()}
    names, said = _names(described, source, path, config, labels)
    for number in sorted(labels - names.keys()):
        raise InputError(f"{reader.first_of[number]}: class {number} has no name; there are {len(names)}, from 0 on.")
    class_names, index, merged = numbered_classes(names, config)
    found = [_relabelled(item, index) for item in found]
    all_or_none(list(splits.values()), str(path))
    return assemble_boxes(
        path, format=FORMAT, class_names=class_names, found=found, config=config,
        notes=[*said, *notes, *reader.notes(), *merged],
    )  # fmt: skip


class _Reader:
    """Texts to boxes, and what is to be said about all of them."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.first_of: dict[int, str] = {}  # class -> the line where it was first met
        self.confident = 0
        self.rounded: list[str] = []
        self.clipped: list[str] = []
        self.unreadable: list[str] = []

    def boxes(self, picture: Path, text: Path) -> tuple[Box, ...] | None:
        """None where the picture cannot be read: the audit names it, and no box can be given in pixels."""
        try:
            lines = text.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{text} cannot be read: {error}.") from None
        try:
            height, width = picture_size(picture)
        except UnreadablePictureError:
            self.unreadable.append(self.tree.id(picture))
            return None
        return tuple(
            self._box(line.split(), f"line {number} of {text}", width=width, height=height)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )

    def _box(self, cells: Sequence[str], where: str, *, width: int, height: int) -> Box:
        if len(cells) not in (5, 6):
            hint = "; outlines are not read" if len(cells) > 6 else ""
            raise InputError(f"{where} has {len(cells)} columns; class, centre x, y, width, height are expected{hint}.")
        try:
            number, *fractions = [float(cell) for cell in cells]
        except ValueError:
            raise InputError(f"{where} is {' '.join(cells)!r}; numbers are expected.") from None
        if number < 0 or number != int(number):
            raise InputError(f"{where} has class {cells[0]}; whole numbers from 0 on are expected.")
        for text, value in zip(cells[1:5], fractions[:4], strict=True):
            if not -TOLERANCE <= value <= 1 + TOLERANCE:  # NaN too
                raise InputError(f"{where} has {text}; fractions of the picture, 0 to 1, are expected.")
        if any(not 0 <= value <= 1 for value in fractions[:4]):
            self.rounded.append(where)
        self.confident += len(cells) == 6
        self.first_of.setdefault(int(number), where)
        x, y, w, h = (min(max(value, 0.0), 1.0) for value in fractions[:4])
        box, over = clipped_box(int(number), (x, y, w, h), width=width, height=height)
        if over >= 1:
            self.clipped.append(where)
        return box

    def notes(self) -> list[str]:
        said = [f"boxes with a confidence, which is not kept: {self.confident}"] if self.confident else []
        said += [f"fractions up to 1 % outside 0 to 1 clipped: {named(self.rounded, most=3)}"] if self.rounded else []
        said += [f"boxes clipped by a pixel or more: {named(self.clipped, most=3)}"] if self.clipped else []
        said += [f"unreadable, so that boxes have no pixels: {named(self.unreadable)}"] if self.unreadable else []
        return said


def clipped_box(
    label: int, fractions: tuple[float, float, float, float], *, width: int, height: int
) -> tuple[Box, float]:
    """Centre and size as fractions -> the box clipped to the picture, and by how many pixels it reached over."""
    x, y, w, h = fractions
    left, top, right, bottom = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
    box = corners(label, max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    return box, max(-left, -top, right - width, bottom - height, 0.0)


def _is_row(line: str) -> bool:
    cells = line.split()
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return False
    return len(cells) in (5, 6) and numbers[0] == int(numbers[0]) and all(map(math.isfinite, numbers))


def _texts(tree: Tree, root: Path) -> list[Path]:
    """Files that may hold boxes: all in folders for labels, or beside the pictures where there are none."""
    texts = [path for path in tree.labels(root, ".txt") if path.name.lower() not in NO_LABELS]
    inside = [path for path in texts if any(part.lower() in LABEL_FOLDERS for part in tree.id(path).split("/")[:-1])]
    return inside or texts


def _description(tree: Tree, root: Path) -> tuple[dict[str, Any], Path | None]:
    """The yaml with `names` in the folder, and where it is.

    Raises:
        InputError: there are several.
    """
    found: list[tuple[dict[str, Any], Path]] = []
    for path in sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml")):
        if path.name == FILE_NAME:
            continue
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
        if isinstance(content, dict) and "names" in content:
            found.append((content, path))
    if len(found) > 1:
        raise InputError(f"{' and '.join(path.name for _, path in found)} both have names; keep one of them.")
    return found[0] if found else ({}, None)


def _names(
    described: dict[str, Any], source: Path | None, root: Path, config: DataConfig, labels: set[int]
) -> tuple[dict[int, str], list[str]]:
    """Number -> name, and notes."""
    if source is not None:
        names = described["names"]
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not all(isinstance(n, int) and isinstance(v, str) for n, v in names.items()):
            raise InputError(f"names in {source} must be a list of names, or numbers with their names.")
        return names, [f"class names from {source.name}"]
    for path in (root / "classes.txt", root / "labels" / "classes.txt"):
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip())), [f"class names from {path.name}"]
    listed = listed_names(config)
    if listed:
        return dict(enumerate(listed)), []
    numbers = range(max(labels, default=-1) + 1)
    return {n: str(n) for n in numbers}, ["classes are named by their numbers; class_names in handlens.yaml names them"]


def _splits(
    tree: Tree, root: Path, pictures: Sequence[Path], described: dict[str, Any], source: Path | None
) -> tuple[dict[Path, Split | None], list[str]]:
    """The split of each picture, and notes."""
    by_folder = {picture: split_by_folder(tree, picture) for picture in pictures}
    stated = {key: described[key] for key in SPLIT_KEYS if described.get(key)}
    if source is None or not stated:
        return by_folder, []
    base = source.parent / str(described.get("path") or ".")
    places: dict[str, list[Path]] = {}
    for key, entry in stated.items():
        places[key] = [base / str(name) for name in (entry if isinstance(entry, list) else [entry])]
    missing = [str(stated[key]) for key, paths in places.items() if not all(path.exists() for path in paths)]
    if missing:
        what = "folders' names tell the splits" if any(by_folder.values()) else "there are no splits"
        return by_folder, [f"{source.name} names {', '.join(missing)}, which are not here: {what}"]
    splits: dict[Path, Split | None] = dict.fromkeys(pictures)
    real = {picture.resolve(): picture for picture in pictures}
    twice = 0
    for key, paths in places.items():
        for picture in (real[p] for path in paths for p in _within(path, base, real.keys())):
            twice += splits[picture] not in (None, SPLIT_KEYS[key])
            splits[picture] = splits[picture] or SPLIT_KEYS[key]
    notes = [f"pictures that {source.name} puts into two splits, kept in the first: {twice}"] if twice else []
    return splits, notes


def _within(place: Path, base: Path, pictures: Any) -> list[Path]:
    """Those of the pictures in a folder, or in a list of files."""
    if place.is_dir():
        folder = place.resolve()
        return [picture for picture in pictures if picture.is_relative_to(folder)]
    listed = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    stated = {(base / line).resolve() for line in listed} | {(place.parent / line).resolve() for line in listed}
    return [picture for picture in pictures if picture in stated]


def _relabelled(item: Found, index: dict[int, int]) -> Found:
    if item.boxes is None:
        return item
    return replace(item, boxes=tuple(replace(box, label=index[box.label]) for box in item.boxes))
