"""YOLO: a text per image, a line per box: class, center x, center y, width, height as fractions of the image.
A line of more columns is an outline, class and corners x, y; it is read as the box around it.

Names come from a yaml (`names`, a list or a mapping) or from classes.txt. Its folders `train`, `val` and `test` are
followed where they exist; archives often come without them, and then the folders' names tell the splits.

Numbers up to 1 % outside 0 to 1 are rounding and clipped; others are an error, since whoever wrote them meant pixels.
A box that reaches over the image's edge is clipped: fractions of an image do not lie outside it.

Source: docs.ultralytics.com/datasets/detect and .../segment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from handlens.data.config import FILE_NAME, DataConfig
from handlens.data.decode import UnreadableImageError
from handlens.data.formats.assemble import Found, assemble_boxes, corners, listed_names, named, numbered_classes
from handlens.data.formats.label_files import (
    all_or_none,
    image_size,
    images_below,
    in_folder,
    pair,
    read_each,
    read_text,
    remark,
    split_by_folder,
)
from handlens.data.labels.boxes import Box
from handlens.data.listing import Tree
from handlens.data.record import IMAGE_EXTENSIONS, Dataset, Remark, Split
from handlens.errors import InputError

FORMAT = "yolo"
LABEL_FOLDERS = frozenset({"label", "labels"})
TOLERANCE = 0.01  # of the image
CLIPPED = "boxes clipped by a pixel or more"
SPLIT_KEYS: dict[str, Split] = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
SEEN = {  # what is said about images: code and sentence
    "confidence": "boxes with a confidence (not kept)",
    "outlines": "polygons, replaced by their bounding boxes",
    "rounded": "fractions up to 1 % outside 0 to 1, clipped",
    "clipped": CLIPPED,
}
# Texts that tools put beside labels; an image may still have one of these names.
OTHER_TEXTS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "readme.txt")


def recognise(path: Path) -> bool:
    """Whether a text about an image holds a line of a class and numbers; where all such texts are empty, whether they
    lie in a folder for labels or a yaml names classes."""
    tree = Tree(path)
    texts = list(tree.labels(path, ".txt"))
    if not texts:
        return False
    pairs = pair(tree, tree.images(path), texts, folders=LABEL_FOLDERS, guess=True).pairs
    empty = True
    for _, text in pairs:
        lines = text.read_text("utf-8-sig", "replace").splitlines()
        if any(map(_is_row, lines)):
            return True
        empty = empty and not any(map(str.strip, lines))
    inside = any(in_folder(tree, text, LABEL_FOLDERS) for _, text in pairs)
    return bool(pairs) and empty and (inside or _description(path)[1] is not None)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no labels; no text whose lines are numbers within the image and classes with names; no box at
            all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    described, source = _description(path)
    images, notes = images_below(tree, path, labels={".txt", ".yaml", ".yml"})
    texts = [text for text in tree.labels(path, ".txt") if text.name.lower() not in OTHER_TEXTS or _has_rows(text)]
    pairs = pair(tree, images, texts, folders=LABEL_FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{path} has no image with a label file of the same name; put them into images/ and labels/.")
    names, said = _names(described, source, path, config)
    notes = [*said, *notes]
    if pairs.images:
        shown = named([tree.id(image) for image in pairs.images])
        notes.append(f"images without a label file, read as images without objects: {shown}")
    if pairs.strays:
        what = "skipped, images without a label file and outside the folders of the others"
        notes.append(f"{what}: {named([tree.id(image) for image in pairs.strays])}")
    splits, split_remarks = _splits(tree, path, [p for p, _ in pairs.pairs] + pairs.images, described, source)

    reader = _Reader(tree, names)
    boxes, damaged = read_each(tree, [item for item in pairs.pairs if item[0] in splits], reader.boxes)
    boxes |= dict.fromkeys(pairs.images, ())
    found = [Found(path=p, label=boxes[p], split=split) for p, split in splits.items() if p in boxes]
    if names is None:
        names = {number: str(number) for number in sorted({box.label for item in found for box in item.label or ()})}
    class_names, index, merged = numbered_classes(names, config)
    found = [_relabeled(item, index) for item in found]
    return assemble_boxes(
        path,
        format=FORMAT,
        class_names=class_names,
        found=found,
        config=config,
        notes=[
            *notes,
            *merged,
            *split_remarks,
            *_without_image(tree, pairs.files),
            *reader.remarks(),
            *damaged,
        ],
    )


class _Reader:
    """Texts to boxes, and what is to be said about all of them."""

    def __init__(self, tree: Tree, names: Mapping[int, str] | None) -> None:
        self.tree = tree
        self.names = names
        self.seen: dict[str, dict[str, None]] = {what: {} for what in SEEN}  # ids of images, in order

    def boxes(self, image: Path, text: Path) -> tuple[Box, ...] | None:
        """None where the image cannot be read: the audit names it, and no box can be given in pixels."""
        lines = read_text(text).splitlines()
        try:
            height, width = image_size(image)
        except UnreadableImageError:
            return None
        return tuple(
            self._box(line.split(), f"line {number} of {text}", id=self.tree.id(image), width=width, height=height)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )

    def _box(self, cells: Sequence[str], where: str, *, id: str, width: int, height: int) -> Box:
        try:
            number, *fractions = [float(cell) for cell in cells]
        except ValueError:
            raise InputError(f"{where} is {' '.join(cells)!r}; numbers separated by spaces are expected.") from None
        outline = len(cells) > 6 and len(cells) % 2 == 1
        if len(cells) not in (5, 6) and not outline:
            raise InputError(f"{where} has {len(cells)} columns; class, center x, y, width, height are expected.")
        if not number.is_integer() or number < 0:  # NaN and infinity are no integers
            raise InputError(f"{where} has class {cells[0]}; an integer from 0 up is expected.")
        if self.names is not None and int(number) not in self.names:
            raise InputError(f"{where}: class {int(number)} has no name; there are {len(self.names)} names.")
        if len(cells) == 6:
            self.seen["confidence"][id] = None
            fractions.pop()
        for text, value in zip(cells[1:], fractions, strict=False):
            if not -TOLERANCE <= value <= 1 + TOLERANCE:  # NaN too
                raise InputError(f"{where} has {text}; fractions of the image, 0 to 1, are expected.")
        if any(not 0 <= value <= 1 for value in fractions):
            self.seen["rounded"][id] = None
        clipped = [min(max(value, 0.0), 1.0) for value in fractions]
        if outline:
            self.seen["outlines"][id] = None
            left, top, right, bottom = min(clipped[::2]), min(clipped[1::2]), max(clipped[::2]), max(clipped[1::2])
            clipped = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        x, y, w, h = clipped
        box, over = clipped_box(int(number), (x, y, w, h), width=width, height=height)
        if over >= 1:
            self.seen["clipped"][id] = None
        return box

    def remarks(self) -> list[Remark]:
        return [remark(code, SEEN[code], ids, level="note") for code, ids in self.seen.items() if ids]


def clipped_box(
    label: int, fractions: tuple[float, float, float, float], *, width: int, height: int
) -> tuple[Box, float]:
    """Center and size as fractions -> the box clipped to the image, and by how many pixels it reached over."""
    x, y, w, h = fractions
    left, top, right, bottom = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
    box = corners(label, max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    return box, max(-left, -top, right - width, bottom - height, 0.0)


def _is_row(line: str) -> bool:
    """Also one with commas, or NaN, which `read` refuses with a reason."""
    try:
        numbers = [float(cell) for cell in re.split(r"[\s,;]+", line.strip())]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0].is_integer()


def _has_rows(text: Path) -> bool:
    return any(map(_is_row, text.read_text("utf-8-sig", "replace").splitlines()))


def _without_image(tree: Tree, texts: Sequence[Path]) -> list[Remark]:
    """A warning about texts of boxes, and those in folders for labels; a note about others, a license for one."""
    is_label = {text: in_folder(tree, text, LABEL_FOLDERS) or _has_rows(text) for text in texts}
    labels = [text for text in texts if is_label[text]]
    others = [tree.id(text) for text in texts if not is_label[text]]
    remarks = []
    if labels:
        ids = map(tree.id, labels)
        remarks.append(remark("without_image", "skipped, label files without an image", ids))
    if others:
        message = f"skipped, text files that are not labels: {named(others)}"
        remarks.append(Remark(code="other_texts", message=message, files=tuple(others), level="note", lost=False))
    return remarks


def _description(root: Path) -> tuple[dict[str, Any], Path | None]:
    """The yaml with `names` in the folder, and where it is.

    Raises:
        InputError: there are several.
    """
    found: list[tuple[dict[str, Any], Path]] = []
    for path in sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml")):
        if path.name == FILE_NAME or path.name.startswith("."):
            continue
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
        if isinstance(content, dict) and "names" in content:
            found.append((content, path))
    if len(found) > 1:
        raise InputError(f"{' and '.join(path.name for _, path in found)} both have names; keep one of them.")
    return found[0] if found else ({}, None)


def _names(
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
        if path.is_file() and not _has_rows(path):
            lines = map(str.strip, read_text(path).splitlines())
            return {n: name for n, name in enumerate(lines) if name}, [f"class names from {path.name}"]
    listed = listed_names(config)
    if listed:
        return dict(enumerate(listed)), []
    return None, ["classes are named after the numbers found; set class_names in handlens.yaml to name them"]


def _splits(
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
    for line in filter(None, map(str.strip, read_text(place).splitlines())):
        stated = [path for path in ((base / line).resolve(), (place.parent / line).resolve()) if path in images]
        found |= dict.fromkeys(stated)
        if not stated:
            absent.append(line)
    return list(found), absent


def _relabeled(item: Found, index: dict[int, int]) -> Found:
    if item.label is None:
        return item
    return replace(item, label=tuple(replace(box, label=index[box.label]) for box in item.label))
