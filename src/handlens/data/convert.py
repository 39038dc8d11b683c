"""Write a data set in another format: images are copied, never changed, and what the format cannot say is named.

The new folder appears whole or not at all. Where the format allows, reading it again gives the same boxes, masks,
classes in the same order and splits; images lie in one folder per split and keep their names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from handlens.data.config import nearest
from handlens.data.decode import UnreadableImageError
from handlens.data.formats import coco
from handlens.data.formats.assemble import named
from handlens.data.formats.label_files import all_or_none, image_size
from handlens.data.formats.write_boxes import write_coco, write_voc, write_yolo
from handlens.data.formats.write_masks import write_masks, write_outlines, write_voc_masks
from handlens.data.formats.writing import Item
from handlens.data.labels.boxes import BoxLabels
from handlens.data.labels.kind import Kind
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Dataset, nfc
from handlens.errors import InputError

Target = Literal["voc", "coco", "yolo", "masks"]


Writer = Callable[[Dataset, Sequence[Item], Path], list[str]]


WRITERS: dict[type[Kind], dict[str, Writer]] = {
    MaskLabels: {"voc": write_voc_masks, "masks": write_masks},
    BoxLabels: {"voc": write_voc, "coco": write_coco, "yolo": write_yolo},
}


def convert(dataset: Dataset, folder: Path, *, to: Target) -> list[str]:
    """Write images and labels into a new or empty folder.

    Boxes go to "voc", "coco" and "yolo"; masks to "voc" (SegmentationClass) and "masks" (images/ and masks/). A data
    set read from COCO goes to "masks" as well: its outlines become masks, with "background" as class 0.

    Args:
        dataset: of COCO one that was opened whole, as by `open_dataset(path, whole=True)`.
        folder: not inside the data set's own.

    Returns:
        Sentences that say what was lost, in reading and in writing; empty where nothing was.

    Raises:
        InputError: a data set of COCO was not opened whole; the format does not hold this task; the folder is not
            empty, is a file or lies in the data set; no image can be read; some images have a split and some none.
    """
    if dataset.format == coco.FORMAT and dataset.source is None:
        raise InputError(f"{dataset.root} was read without its segmentations; use open_dataset(path, whole=True).")
    folder = folder.resolve()
    writers = _writers(dataset)
    if to not in writers:
        known = f"{to!r} is not known; {nearest(to, get_args(Target))}." if to not in get_args(Target) else ""
        can = f"use {' or '.join(writers)}" if writers else "there is nothing to convert"
        raise InputError(known or f"images with {dataset.kind.noun} cannot be written as {to}; {can}.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; choose a new folder.")
    if folder.is_relative_to(dataset.root.resolve()):
        raise InputError(f"{folder} is inside {dataset.root} and would be read as part of it; use a folder outside.")
    items, lost = _items(dataset, to=to)
    unread = [remark.message for remark in dataset.remarks if remark.lost]
    lost = [*unread, *dataset.kind.unread(dataset.records), *lost]
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
    outlines: dict[str, Writer] = {"masks": write_outlines} if dataset.format == coco.FORMAT else {}
    return WRITERS.get(type(dataset.kind), {}) | outlines


def _items(dataset: Dataset, *, to: Target) -> tuple[list[Item], list[str]]:
    """What can be written, each with a stem of its own in its folder, and what cannot."""
    items: list[Item] = []
    lost: list[str] = []
    stems: set[tuple[str, str]] = set()
    renamed: list[str] = []
    for record in dataset.records:
        if not record.labeled:
            lost.append(f"skipped, no label: {record.id}")
            continue
        try:
            size = image_size(record.path)
        except UnreadableImageError as error:
            lost.append(f"skipped: {error}")
            continue
        stem, number = record.path.stem, 1
        folder = "" if to == "voc" or record.split is None else record.split  # VOC has one for all
        while (folder, nfc(stem).casefold()) in stems:  # a.jpg and b/A.png: one name on Windows and macOS
            number += 1
            stem = f"{record.path.stem}_{number}"
        stems.add((folder, nfc(stem).casefold()))
        renamed += [record.id] if number > 1 else []
        items.append(Item(record, size, stem + record.path.suffix))
    if not items:
        raise InputError(f"none of the {len(dataset.records)} images in {dataset.root} can be written.")
    lost += [f"names: {named(renamed)} were taken and got a numeric suffix"] if renamed else []
    grouped = sum(item.record.group is not None for item in items)
    lost += [f"groups of {grouped} images"] if grouped else []
    return items, lost
