"""One file per format on disk, each with `recognize(path)` and `read(path, config)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from handlens.data.config import CsvColumns, DataConfig, read_config
from handlens.data.formats import boxes_csv, coco, csv_table, filename, flat, folders, masks, points, voc, yolo
from handlens.data.formats.csv_file import peek, tables_below
from handlens.data.formats.csv_table import require_no_places
from handlens.data.formats.foreign import refuse_foreign
from handlens.data.formats.label_files import IMAGE_FOLDERS
from handlens.data.labels import as_task
from handlens.data.listing import Tree
from handlens.data.record import Dataset
from handlens.errors import InputError, nearest

READERS: dict[str, tuple[Callable[[Path], bool], Callable[[Path, DataConfig], Dataset]]] = {
    "folders": (folders.recognize, folders.read),
    "filename": (filename.recognize, filename.read),
    "csv": (csv_table.recognize, csv_table.read),
    "boxes-csv": (boxes_csv.recognize, boxes_csv.read),
    "masks": (masks.recognize, masks.read),
    "voc": (voc.recognize, voc.read),
    "voc-masks": (voc.recognize_masks, voc.read_masks),
    "coco": (coco.recognize, coco.read),
    "yolo": (yolo.recognize, yolo.read),
    "points": (points.recognize, points.read),
    "flat": (flat.recognize, flat.read),
}

GUESSED = ("folders", "filename")  # from names alone: files with labels tell more


def read(path: Path, *, format: str | None, config: Path | None, task: str | None, whole: bool) -> Dataset:
    """As `handlens.data.open_dataset`."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder of images.")
    if not path.is_dir():
        raise InputError(f"{path} is a file; give the folder that contains the images.")
    settings = read_config(path, path=config)
    stated = format or settings.stated_format()
    if stated is not None and stated not in READERS:
        raise InputError(f"format {stated!r} is not known; {nearest(stated, READERS)}.")
    chosen = stated or (_of_table(path, settings.csv) if settings.csv is not None else _recognize(path))
    dataset = READERS[chosen][1](path, settings)
    if not whole:
        dataset = replace(dataset, source=None)
    if task is not None:
        dataset = as_task(dataset, task)
    return dataset


def _of_table(path: Path, columns: CsvColumns) -> str:
    """Of a table that handlens.yaml describes without its labels: boxes where columns are called so."""
    return boxes_csv.FORMAT if boxes_csv.has_boxes(path, columns) else csv_table.FORMAT


def _recognize(path: Path) -> str:
    labeled = [name for name, (recognize, _) in READERS.items() if name != "flat" and recognize(path)]
    if len(labeled) == 2 and labeled[0] == "folders" and _has_images_folder(path):
        return labeled[1]  # images/ and a folder more: that one is hardly a class beside a class "images"
    if len(labeled) > 1:
        ways = "; ".join(f"--format {name} ({_outcome(path, name)})" for name in labeled)
        raise InputError(f"{path} can be read in {len(labeled)} ways, choose one: {ways}.")
    if not labeled or labeled[0] in GUESSED:
        refuse_foreign(path)
    if not labeled:
        for table in map(peek, tables_below(path)):
            require_no_places(table)
    return labeled[0] if labeled else "flat"  # which names an empty folder


def _outcome(path: Path, format: str) -> str:
    """What reading it so would give: the task and what is counted, or why it cannot."""
    try:
        return READERS[format][1](path, DataConfig.model_validate({})).summary()
    except InputError as error:
        return f"fails: {str(error).rstrip('.')}"


def _has_images_folder(path: Path) -> bool:
    return any(folder.name.lower() in IMAGE_FOLDERS for folder in Tree(path).folders(path))
