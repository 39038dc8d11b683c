"""One JSON of COCO, checked: what is read from its images, annotations and categories is there and makes sense.

Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlens.data.formats.assemble import named
from handlens.data.formats.label_files import remark, split_by_folder
from handlens.data.formats.split_names import split_of
from handlens.data.listing import Tree
from handlens.data.outlines import frame
from handlens.data.record import Remark, Split
from handlens.errors import InputError
from handlens.reading.parsed import read_json
from handlens.reading.text import read_text_start

HEAD = 64 * 1024  # of a file of 450 MB no more is read to see that it is COCO's
KEYS = ('"images"', '"annotations"', '"categories"')


@dataclass(frozen=True)
class Instances:
    """One file, checked: images and annotations have what is read from them.

    Attributes:
        images: those whose annotations can all be used.
        annotations: by the id of their image.
        categories: id -> entry; ids are numbers, or texts in all files.
        faults: file_name of an image, or where it stands -> why it or an annotation of it cannot be used.
        strays: what is wrong with annotations of which no image can be told.
        rest: what else the file says: info, licenses.
    """

    path: Path
    split: Split | None
    images: list[Mapping[str, Any]]
    annotations: dict[Any, list[Mapping[str, Any]]]
    categories: dict[int, Mapping[str, Any]]
    faults: dict[str, str]
    strays: list[str]
    rest: dict[str, Any]


def looks_like_coco(path: Path) -> bool:
    head = read_text_start(path, HEAD)
    if not head.lstrip().startswith("{"):
        return False
    lists = [re.search(rf"{key}\s*:\s*\[", head) for key in KEYS]
    return sum(map(bool, lists)) >= (2 if len(head) < HEAD // 2 else 1)  # captions have no categories


def instances(tree: Tree, root: Path) -> tuple[list[Instances], list[Remark]]:
    """The files with boxes below a folder, and remarks about those that are damaged or without.

    Raises:
        InputError: there is none; all are damaged.
    """
    paths = [path for path in tree.labels(root, ".json") if looks_like_coco(path)]
    stated = [path for path in paths if path.name.lower().startswith("instances")]
    files: list[Instances] = []
    aside = [tree.id(path) for path in paths if stated and path not in stated]
    damaged: dict[str, InputError] = {}
    for path in stated or paths:
        try:
            file = _instances(tree, path)
        except InputError as error:
            damaged[tree.id(path)] = error
            continue
        if file is None:
            aside.append(tree.id(path))
        else:
            files.append(file)
    if not files:
        if damaged:
            raise next(iter(damaged.values()))
        raise InputError(f"{root} has no COCO instances JSON with images, annotations and categories.")
    remarks = [remark("without_boxes", "skipped, JSON without boxes", aside, level="note")] if aside else []
    others = [tree.id(path) for path in tree.labels(root, ".json") if path not in paths]
    if others:
        message = f"skipped, JSON that is not COCO: {named(others)}"
        remarks.append(Remark(code="other_json", message=message, files=tuple(others), level="note", lost=False))
    if damaged:
        reasons = tuple(map(str, damaged.values()))
        message = f"{len(damaged)} JSON skipped with all images they list. The first: {reasons[0]}"
        remarks.append(Remark(code="json_unreadable", message=message, files=tuple(damaged), reasons=reasons))
    strays = [reason for file in files for reason in file.strays]
    if strays:
        message = f"annotations skipped because their image is unknown: {len(strays)}. The first: {strays[0]}"
        remarks.append(Remark(code="annotation_without_image", message=message, reasons=tuple(strays)))
    return files, remarks


def categories(files: Sequence[Instances]) -> dict[int, Mapping[str, Any]]:
    """id -> entry.

    Raises:
        InputError: two files give one id two names; there is no category.
    """
    entries: dict[int, Mapping[str, Any]] = {}
    for file in files:
        for id, entry in file.categories.items():
            if entries.setdefault(id, entry)["name"] != entry["name"]:
                raise InputError(f"category {id} is {entries[id]['name']!r}, and {entry['name']!r} in {file.path}.")
    if len(set(map(type, entries))) > 1:
        raise InputError(f"some categories of {files[0].path} have numbers as ids and some have strings; use numbers.")
    return entries


def outline_of(annotation: Mapping[str, Any]) -> Any:
    """Polygons or run lengths as they are stored; [] where there are none, and without the empty polygons that tools
    leave behind."""
    outline = annotation.get("segmentation") or []
    return [polygon for polygon in outline if polygon] if isinstance(outline, list) else outline


def _instances(tree: Tree, path: Path) -> Instances | None:
    """None where the annotations have neither boxes nor categories: captions, images without labels.

    Raises:
        InputError: the file is damaged, or a category is.
    """
    content = read_json(path, "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(key[1:-1]), list) for key in KEYS):
        return None
    entries = [entry for entry in content["annotations"] if isinstance(entry, dict)]
    if content["annotations"] and not any("bbox" in entry or "segmentation" in entry for entry in entries):
        return None
    for category in content["categories"]:
        _need(category, ("id", "name"), f"a category of {path}")
    ids = Counter(category["id"] for category in content["categories"])
    if any(count > 1 for count in ids.values()):
        raise InputError(f"two categories of {path} have the id {ids.most_common(1)[0][0]}; give each its own.")
    classes: dict[int, Mapping[str, Any]] = {
        category["id"]: {**category, "name": str(category["name"])} for category in content["categories"]
    }
    images, faults = _images(content["images"], path)
    annotations: dict[Any, list[Mapping[str, Any]]] = {id: [] for id in images}
    strays: list[str] = []
    for position, annotation in enumerate(content["annotations"], start=1):
        where = f"annotation {annotation.get('id', position) if isinstance(annotation, dict) else position} of {path}"
        image = None
        try:
            _need(annotation, ("image_id",), where)
            image = images.get(annotation["image_id"])
            if image is None:
                raise InputError(f"{where} is about image {annotation['image_id']}, which is not listed, or not once.")
            _need(annotation, ("category_id",), where)
            if annotation["category_id"] not in classes:
                raise InputError(f"{where} has category {annotation['category_id']}, which is not listed.")
            annotations[image["id"]].append(_with_bbox(annotation, where))
        except InputError as error:
            if image is None:
                strays.append(str(error))
            else:
                faults.setdefault(image["file_name"], str(error))
    return Instances(
        path=path,
        split=split_of(path.stem) or split_by_folder(tree, path),
        images=[image for image in images.values() if image["file_name"] not in faults],
        annotations=annotations,
        categories=classes,
        faults=faults,
        strays=strays,
        rest={key: value for key, value in content.items() if f'"{key}"' not in KEYS},
    )


def _images(entries: Sequence[Any], path: Path) -> tuple[dict[Any, Mapping[str, Any]], dict[str, str]]:
    """id -> entry, and the faults of others: file_name, or where the entry stands -> the reason."""
    images: dict[Any, Mapping[str, Any]] = {}
    faults: dict[str, str] = {}
    shared: set[Any] = set()
    for position, entry in enumerate(entries, start=1):
        where = f"image {position} of {path}"
        try:
            _need(entry, ("id", "file_name"), where)
        except InputError as error:
            name = entry.get("file_name") if isinstance(entry, dict) else None
            faults[name if isinstance(name, str) else where] = str(error)
            continue
        known = images.setdefault(entry["id"], entry)
        if known["file_name"] != entry["file_name"]:
            shared.add(entry["id"])
            for one in (known, entry):
                faults[one["file_name"]] = (
                    f"two images of {path} have the id {entry['id']}, so their annotations are ambiguous."
                )
    return {id: entry for id, entry in images.items() if id not in shared}, faults


def _need(entry: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}, not an object.")
    lacking = [key for key in keys if key not in entry]
    if lacking:
        raise InputError(f"{where} has no {' and no '.join(lacking)}.")
    for key in keys:
        if (key == "id" or key.endswith("_id")) and not isinstance(entry[key], int | str):
            raise InputError(f"{where} has {key} = {entry[key]!r}; a number is expected.")
        if key == "file_name" and not (isinstance(entry[key], str) and entry[key]):
            raise InputError(f"{where} has {key} = {entry[key]!r}; a string is expected.")


def _with_bbox(annotation: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The annotation with a checked bbox: its own, or the one around its outline."""
    if not annotation.get("bbox") and outline_of(annotation):
        try:
            annotation = {**annotation, "bbox": frame(outline_of(annotation))}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where} has no bbox, and its segmentation is invalid: {error}.") from None
    _need(annotation, ("bbox",), where)
    box = annotation["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(finite(value) for value in box):
        raise InputError(f"{where} has the bbox {box}; x, y, width and height are expected.")
    return annotation


def finite(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 300 digits
        return False
