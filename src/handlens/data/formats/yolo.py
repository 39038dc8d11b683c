"""YOLO: a text per image, a line per box: class, center x, center y, width, height as fractions of the image.
A line of more columns is an outline, class and corners x, y; it is read as the box around it.

Names come from a yaml (`names`, a list or a mapping) or from classes.txt. Its folders `train`, `val` and `test` are
followed where they exist; archives often come without them, and then the folders' names tell the splits.

Numbers up to 1 % outside 0 to 1 are rounding and clipped; others are an error, since whoever wrote them meant pixels.
A box that reaches over the image's edge is clipped: fractions of an image do not lie outside it.

Source: docs.ultralytics.com/datasets/detect and .../segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from handlens.data.config import DataConfig
from handlens.data.decode import UnreadableImageError
from handlens.data.formats.assemble import Found, assemble_boxes, corners, named
from handlens.data.formats.class_names import numbered_classes
from handlens.data.formats.label_files import (
    image_size,
    images_below,
    in_folder,
    pair,
    read_each,
    remark,
)
from handlens.data.formats.yolo_yaml import class_names_of, description, first_lines, has_rows, is_row, splits_of
from handlens.data.labels.boxes import Box
from handlens.data.listing import Tree
from handlens.data.record import Dataset, Remark
from handlens.errors import InputError
from handlens.reading.text import read_text

FORMAT = "yolo"
LABEL_FOLDERS = frozenset({"label", "labels"})
TOLERANCE = 0.01  # of the image
CLIPPED = "boxes clipped by a pixel or more"
SEEN = {  # what is said about images: code and sentence
    "confidence": "boxes with a confidence (not kept)",
    "outlines": "polygons, replaced by their bounding boxes",
    "rounded": "fractions up to 1 % outside 0 to 1, clipped",
    "clipped": CLIPPED,
}
# Texts that tools put beside labels; an image may still have one of these names.
OTHER_TEXTS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "readme.txt")


def recognize(path: Path) -> bool:
    """Whether a text about an image holds a line of a class and numbers; where all such texts are empty, whether they
    lie in a folder for labels or a yaml names classes."""
    tree = Tree(path)
    texts = list(tree.labels(path, ".txt"))
    if not texts:
        return False
    pairs = pair(tree, tree.images(path), texts, folders=LABEL_FOLDERS, guess=True).pairs
    empty = True
    for _, text in pairs:
        lines = first_lines(text)
        if any(map(is_row, lines)):
            return True
        empty = empty and not any(map(str.strip, lines))
    inside = any(in_folder(tree, text, LABEL_FOLDERS) for _, text in pairs)
    return bool(pairs) and empty and (inside or description(path)[1] is not None)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no labels; no text whose lines are numbers within the image and classes with names; no box at
            all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    described, source = description(path)
    images, notes = images_below(tree, path, labels={".txt", ".yaml", ".yml"})
    texts = [text for text in tree.labels(path, ".txt") if text.name.lower() not in OTHER_TEXTS or has_rows(text)]
    pairs = pair(tree, images, texts, folders=LABEL_FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{path} has no image with a label file of the same name; put them into images/ and labels/.")
    names, said = class_names_of(described, source, path, config)
    notes = [*said, *notes]
    if pairs.images:
        shown = named([tree.id(image) for image in pairs.images])
        notes.append(f"images without a label file, read as images without objects: {shown}")
    if pairs.strays:
        what = "skipped, images without a label file and outside the folders of the others"
        notes.append(f"{what}: {named([tree.id(image) for image in pairs.strays])}")
    splits, split_remarks = splits_of(tree, path, [p for p, _ in pairs.pairs] + pairs.images, described, source)

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
        lines = read_text(text, "label").splitlines()
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


def _without_image(tree: Tree, texts: Sequence[Path]) -> list[Remark]:
    """A warning about texts of boxes, and those in folders for labels; a note about others, a license for one."""
    is_label = {text: in_folder(tree, text, LABEL_FOLDERS) or has_rows(text) for text in texts}
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


def _relabeled(item: Found, index: dict[int, int]) -> Found:
    if item.label is None:
        return item
    return replace(item, label=tuple(replace(box, label=index[box.label]) for box in item.label))
