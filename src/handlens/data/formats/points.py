"""Label JSON: a list of entries with the texts "W", "H" and "Point(x,y)", beside the image or in a folder of labels.

Point is the center of the box, W and H its size, all as fractions of the image; "Name" (or "Label" or "Class") is the
class where it is there, "object" where not. Every entry is a box, also one that repeats another. What reaches over the
image is clipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handlens.data.config import DataConfig
from handlens.data.decode import UnreadableImageError
from handlens.data.formats.assemble import Found, assemble_boxes
from handlens.data.formats.class_names import named_classes
from handlens.data.formats.label_files import (
    all_or_none,
    image_size,
    images_below,
    pair,
    read_each,
    remark,
    split_by_folder,
)
from handlens.data.formats.yolo import CLIPPED, clipped_box
from handlens.data.labels.boxes import Box
from handlens.data.listing import Tree
from handlens.data.record import Dataset
from handlens.errors import InputError
from handlens.reading.parsed import read_json
from handlens.reading.text import read_text_start

FORMAT = "points"
FOLDERS = frozenset({"label", "labels", "annotation", "annotations", "json", "jsons"})
POINT = "point(x,y)"
NAMES = ("name", "label", "class")
NO_NAME = "object"
HEAD = 4096


@dataclass(frozen=True)
class Entry:
    """One line of a file: center x, center y, width, height as fractions."""

    name: str
    fractions: tuple[float, float, float, float]
    where: str


def recognize(path: Path) -> bool:
    return any(map(_looks_like_points, Tree(path).labels(path, ".json")))


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: every JSON is damaged or its entries lack a key or a number; no image for any; no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    images, notes = images_below(tree, path, labels={".json"})
    pairs = pair(tree, images, tree.labels(path, ".json"), folders=FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{path} has no image with a JSON of the same name; put a.json beside a.jpg.")
    entries, remarks = read_each(tree, pairs.pairs, lambda _, file: _entries(file))
    remarks += pairs.orphans(tree, what="a JSON of boxes")
    if any(entry.name == NO_NAME for items in entries.values() for entry in items):
        notes.append(f"boxes without a name get the class {NO_NAME!r}")
    labels = {entry.name: f"{entry.where}: " for items in entries.values() for entry in reversed(items)}
    class_names, index, merged = named_classes(labels, config)
    found = []
    clipped: list[str] = []
    for image, items in entries.items():
        boxes: tuple[Box, ...] | None = None
        try:
            height, width = image_size(image)
        except UnreadableImageError:
            pass  # the audit names it, and no box can be given in pixels
        else:
            made = [clipped_box(index[item.name], item.fractions, width=width, height=height) for item in items]
            clipped += [tree.id(image)] if any(over >= 1 for _, over in made) else []
            boxes = tuple(replace(box) for box, _ in made)
        found.append(Found(path=image, label=boxes, split=split_by_folder(tree, image)))
    if clipped:
        remarks.append(remark("clipped", CLIPPED, clipped, level="note"))
    all_or_none([item.split for item in found], str(path))
    return assemble_boxes(
        path, format=FORMAT, class_names=class_names, found=found, config=config, notes=[*notes, *merged, *remarks]
    )


def point(text: str) -> tuple[float, float]:
    """Two numbers as people write them: "0.5,0.5", "( 0.5 , 0.5 )", "0,5;0,5", "0,5, 0,5", "0,5 0,5".

    Raises:
        ValueError: the text is not two numbers, or can be read in two ways.
    """
    inner = re.sub(r"^\s*(?:point)?\s*[(\[]?\s*|\s*[)\]]?\s*$", "", text, flags=re.IGNORECASE)
    for separator in (r"\s*;\s*", r"\s*,\s+|\s+,\s*", r"\s+"):
        cells = re.split(separator, inner)
        if len(cells) == 2:
            return number(cells[0]), number(cells[1])
    cells = inner.split(",")
    if len(cells) == 2:
        return number(cells[0]), number(cells[1])
    if len(cells) == 4 and "." not in inner:  # every other comma is a decimal sign
        return number(f"{cells[0]}.{cells[1]}"), number(f"{cells[2]}.{cells[3]}")
    raise ValueError(f"{text!r} is not two numbers")


def number(value: Any) -> float:
    """A number, or its text with a point or a comma as decimal sign.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", text):
        raise ValueError(f"{value!r} is not a number")
    return float(text.replace(",", "."))


def _entries(path: Path) -> list[Entry]:
    content = read_json(path, "label")
    if not isinstance(content, list):
        raise InputError(f"{path} contains a {type(content).__name__}; a list of boxes is expected.")
    entries = []
    for position, item in enumerate(content, start=1):
        where = f"entry {position} of {path}"
        if not isinstance(item, Mapping):
            raise InputError(f"{where} is {item!r}; W, H and Point(x,y) are expected.")
        by_key = {re.sub(r"\s", "", str(key)).lower(): value for key, value in item.items()}
        lacking = [key for key in ("w", "h", POINT) if key not in by_key]
        if lacking:
            raise InputError(f"{where} has no {' and no '.join(lacking)}; it has {', '.join(map(str, item))}.")
        try:
            x, y = point(str(by_key[POINT]))
            fractions = (x, y, number(by_key["w"]), number(by_key["h"]))
        except ValueError as error:
            raise InputError(f"{where}: {error}; fractions of the image are expected.") from None
        if not all(0 <= value <= 1 for value in fractions):
            raise InputError(f"{where} has {fractions}; fractions of the image, 0 to 1, are expected.")
        name = next((str(by_key[key]) for key in NAMES if by_key.get(key)), NO_NAME)
        entries.append(Entry(name.strip(), fractions, where))
    return entries


def _looks_like_points(path: Path) -> bool:
    head = read_text_start(path, HEAD)
    return head.lstrip().startswith("[") and POINT in re.sub(r"\s", "", head).lower()
