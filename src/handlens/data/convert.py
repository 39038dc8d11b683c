"""Write a data set in another format: pictures are copied, never changed, and what the format cannot say is named.

The new folder appears whole or not at all. Where the format allows, reading it again gives the same boxes, masks,
classes in the same order and splits; pictures lie in one folder per split and keep their names.
"""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from handlens.data.config import FILE_NAME, nearest
from handlens.data.decode import UnreadablePictureError
from handlens.data.formats.assemble import named
from handlens.data.formats.coco import PictureFinder, categories, class_mask, instances
from handlens.data.formats.label_files import all_or_none, picture_size
from handlens.data.listing import Tree
from handlens.data.masks import read_mask
from handlens.data.record import IGNORE, Box, Dataset, Record, Split, nfc
from handlens.errors import InputError

Target = Literal["voc", "coco", "yolo", "masks"]
SHORT: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Item:
    """A picture to write: its record, (height, width) in pixels, and its new file name, whose stem is its own."""

    record: Record
    size: tuple[int, int]
    name: str

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def boxes(self) -> tuple[Box, ...]:
        return self.record.boxes or ()


Writer = Callable[[Dataset, Sequence[Item], Path], list[str]]


def convert(dataset: Dataset, folder: Path, *, to: Target) -> list[str]:
    """Write pictures and labels into a new or empty folder.

    Boxes go to "voc", "coco" and "yolo"; masks to "voc" (SegmentationClass) and "masks" (images/ and masks/). A data
    set read from COCO goes to "masks" as well: its outlines become masks, with "background" as class 0.

    Args:
        folder: not inside the data set's own.

    Returns:
        Sentences that say what was lost; empty where reading the folder gives the same again.

    Raises:
        InputError: the format does not hold this task; the folder is not empty, is a file or lies in the data set; no
            picture can be read; some pictures have a split and some have none.
    """
    writers = _writers(dataset)
    if to not in writers:
        known = f"{to!r} is not known; {nearest(to, get_args(Target))}." if to not in get_args(Target) else ""
        kind = {"classify": "classes", "segment": "masks", "detect": "boxes"}[dataset.task]
        can = f"use {' or '.join(writers)}" if writers else "there is nothing to convert"
        raise InputError(known or f"pictures with {kind} cannot be written as {to}; {can}.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; give a new folder.")
    if folder.resolve().is_relative_to(dataset.root.resolve()):
        raise InputError(f"{folder} lies in {dataset.root} and would be read as part of it; give a folder elsewhere.")
    items, lost = _items(dataset)
    all_or_none([item.record.split for item in items], str(dataset.root))
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    new.mkdir()
    try:
        lost += writers[to](dataset, items, new)
        if folder.is_dir():
            folder.rmdir()
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return lost


def _writers(dataset: Dataset) -> dict[str, Writer]:
    if dataset.task == "segment":
        return {"voc": _write_voc_masks, "masks": _write_masks}
    if dataset.task == "detect":
        boxes: dict[str, Writer] = {"voc": _write_voc, "coco": _write_coco, "yolo": _write_yolo}
        return boxes | {"masks": _write_outlines} if dataset.format == "coco" else boxes
    return {}


def _items(dataset: Dataset) -> tuple[list[Item], list[str]]:
    """What can be written, each with a stem of its own, and what cannot."""
    items: list[Item] = []
    lost: list[str] = []
    stems: set[str] = set()
    renamed: list[str] = []
    for record in dataset.records:
        if record.mask is None and record.boxes is None:
            lost.append(f"left aside, nothing is known of it: {record.id}")
            continue
        try:
            size = picture_size(record.path)
        except UnreadablePictureError as error:
            lost.append(f"left aside: {error}")
            continue
        stem, number = record.path.stem, 1
        while nfc(stem).casefold() in stems:  # a.jpg and b/A.png: one name on Windows and macOS
            number += 1
            stem = f"{record.path.stem}_{number}"
        stems.add(nfc(stem).casefold())
        renamed += [record.id] if number > 1 else []
        items.append(Item(record, size, stem + record.path.suffix))
    if not items:
        raise InputError(f"none of the {len(dataset.records)} pictures in {dataset.root} can be written.")
    lost += [f"names: {named(renamed)} were taken and got a number"] if renamed else []
    grouped = sum(item.record.group is not None for item in items)
    lost += [f"groups of {grouped} pictures"] if grouped else []
    return items, lost


def _write_voc(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    for item in items:
        _copy(item, folder / "JPEGImages")
        root = ET.Element("annotation")
        _element(root, "folder", "JPEGImages")
        _element(root, "filename", item.name)
        size = ET.SubElement(root, "size")
        for key, value in (("width", item.size[1]), ("height", item.size[0]), ("depth", 3)):
            _element(size, key, str(value))
        _element(root, "segmented", "0")
        for box in item.boxes:
            element = ET.SubElement(root, "object")
            _element(element, "name", dataset.class_names[box.label])
            _element(element, "difficult", str(int(box.difficult)))
            corners = ET.SubElement(element, "bndbox")
            for key, edge in (("xmin", box.left + 1), ("ymin", box.top + 1), ("xmax", box.right), ("ymax", box.bottom)):
                _element(corners, key, _number(edge))
        ET.indent(root)
        _write(folder / "Annotations" / f"{item.stem}.xml", ET.tostring(root, encoding="unicode") + "\n")
    _write_lists(items, folder / "ImageSets" / "Main")
    _write_config(folder, format="voc", class_names=list(dataset.class_names))
    points = sum(box.left + 1 == box.right and box.top + 1 == box.bottom for item in items for box in item.boxes)
    lost = [f"boxes of one pixel, which VOC cannot tell from a point: {points}"] if points else []
    return lost + _lost(items, "crowd", "area")


def _write_coco(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    splits = dict.fromkeys(item.record.split for item in items)
    ids = {item.name: number for number, item in enumerate(items, start=1)}
    annotation_id = 0
    for split in splits:
        part = [item for item in items if item.record.split == split]
        annotations: list[dict[str, Any]] = []
        for item in part:
            _copy(item, folder / "images" / _part(item))
            for box in item.boxes:
                annotation_id += 1
                width, height = round(box.right - box.left, 4), round(box.bottom - box.top, 4)
                annotation: dict[str, Any] = {
                    "id": annotation_id, "image_id": ids[item.name], "category_id": box.label + 1,
                    "bbox": [box.left, box.top, width, height], "iscrowd": int(box.crowd),
                    "area": round(width * height, 4) if box.area is None else box.area,
                }  # fmt: skip
                annotations.append(annotation | ({"ignore": 1} if box.difficult else {}))
        content = {
            "images": [
                {"id": ids[item.name], "file_name": item.name, "width": item.size[1], "height": item.size[0]}
                for item in part
            ],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in enumerate(dataset.class_names, start=1)],
        }
        name = "instances.json" if split is None else f"instances_{SHORT[split]}.json"
        _write(folder / "annotations" / name, json.dumps(content, ensure_ascii=False))
    return []


def _write_yolo(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    outside: list[str] = []
    for item in items:
        _copy(item, folder / "images" / _part(item))
        height, width = item.size
        lines = []
        for box in item.boxes:
            left, right = (min(max(x, 0.0), width) for x in (box.left, box.right))
            top, bottom = (min(max(y, 0.0), height) for y in (box.top, box.bottom))
            if (left, top, right, bottom) != (box.left, box.top, box.right, box.bottom):
                outside.append(item.record.id)
            if left >= right or top >= bottom:  # all of it: no fraction says where it was
                continue
            fractions = (
                (left + right) / 2 / width,
                (top + bottom) / 2 / height,
                (right - left) / width,
                (bottom - top) / height,
            )
            lines.append(" ".join([str(box.label), *(f"{value:.10f}" for value in fractions)]))
        _write(folder / "labels" / _part(item) / f"{item.stem}.txt", "".join(f"{line}\n" for line in lines))
    splits = {item.record.split for item in items}
    places = {SHORT[split]: f"images/{SHORT[split]}" for split in SHORT if split in splits}
    content = {"path": ".", **places, "names": dict(enumerate(dataset.class_names))}
    _write(folder / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    lost = [f"boxes outside their picture, clipped: {named(outside)}"] if outside else []
    return lost + _lost(items, "crowd", "difficult", "area")


def _write_voc_masks(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    for item in items:
        _copy(item, folder / "JPEGImages")
        _save_mask(_mask(dataset, item), folder / "SegmentationClass" / f"{item.stem}.png")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)  # by which the format is recognised
    _write_lists(items, folder / "ImageSets" / "Segmentation")
    _write_config(
        folder, format="voc-masks", class_names=list(dataset.class_names), masks=_as_stored(dataset.class_names)
    )
    return []


def _write_masks(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    return _write_pairs(items, folder, dataset.class_names, mask_of=lambda item: _mask(dataset, item))


def _write_outlines(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    tree = Tree(dataset.root)
    files, _ = instances(tree, dataset.root)
    finder = PictureFinder(tree, [record.path for record in dataset.records])
    names = categories(files)
    number_of = {id: 1 + dataset.class_names.index(nfc(name)) for id, name in names.items()}
    outlines: dict[Path | None, list[Any]] = {
        finder.find(str(image["file_name"]), near=file): list(file.annotations.get(image["id"], ()))
        for file in files
        for image in file.images
    }
    without = sum(not a.get("segmentation") for annotations in outlines.values() for a in annotations)
    lost = _write_pairs(
        items, folder, ("background", *dataset.class_names),
        mask_of=lambda item: class_mask(outlines[item.record.path], size=item.size, index=number_of),
    )  # fmt: skip
    lost += [f"objects without an outline, their boxes ignored: {without}"] if without else []
    return [*lost, "which pixels belong to which object of a class", *_lost(items, "crowd", "difficult", "area")]


def _write_pairs(
    items: Sequence[Item], folder: Path, class_names: Sequence[str], *, mask_of: Callable[[Item], NDArray[np.uint8]]
) -> list[str]:
    for item in items:
        _copy(item, folder / "images" / _part(item))
        _save_mask(mask_of(item), folder / "masks" / _part(item) / f"{item.stem}.png")
    _write_config(folder, format="masks", class_names=list(class_names), masks=_as_stored(class_names))
    return []


def _as_stored(class_names: Sequence[str]) -> dict[str, Any]:
    """Said for every number: 0 and 255 alone would be taken for two classes."""
    return {"values": {number: number for number in range(len(class_names))} | {IGNORE: "ignore"}}


def _mask(dataset: Dataset, item: Item) -> NDArray[np.uint8]:
    assert item.record.mask is not None and dataset.coding is not None
    return read_mask(item.record.mask, dataset.coding, size=item.size)


def _save_mask(mask: NDArray[np.uint8], path: Path) -> None:
    """(H, W) as a PNG with VOC's palette, whose indices are the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    image.save(path)


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) colours of class 0 to 255. Source: VOCdevkit, VOClabelcolormap.m: the bits of the number, spread."""
    numbers = np.arange(256)
    bits = numbers[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1  # (256, 8, 3)
    return np.asarray((bits << (7 - np.arange(8)[:, None])).sum(axis=1)).astype(np.uint8)


def _part(item: Item) -> str:
    return "" if item.record.split is None else SHORT[item.record.split]


def _copy(item: Item, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.record.path, folder / item.name)


def _write_lists(items: Sequence[Item], folder: Path) -> None:
    for split, short in SHORT.items():
        stems = [item.stem for item in items if item.record.split == split]
        if stems:
            _write(folder / f"{short}.txt", "".join(f"{stem}\n" for stem in stems))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


def _write_config(folder: Path, **content: Any) -> None:
    _write(folder / FILE_NAME, yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


def _element(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _lost(items: Sequence[Item], *marks: str) -> list[str]:
    """Sentences about marks of boxes that the format does not hold."""
    counts = {mark: sum(bool(getattr(box, mark)) for item in items for box in item.boxes) for mark in marks}
    return [f"{mark} of {count} boxes" for mark, count in counts.items() if count]
