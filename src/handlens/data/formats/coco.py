"""COCO: one JSON of images, annotations and categories, or one per split (instances_train2017.json).

A box is x, y, width, height from the image's upper left corner, in pixels at edges; an object with an outline and no
box has the box around it. Categories are taken in the order of their ids. `ignore`, which converters from VOC write,
is read as difficult.

Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found, assemble_boxes, corners, has_area, named, numbered_classes
from handlens.data.formats.label_files import all_or_none, images_below, remark, split_by_folder, unusable
from handlens.data.formats.split_names import split_of
from handlens.data.labels.boxes import Box
from handlens.data.listing import Tree
from handlens.data.outlines import frame, render
from handlens.data.record import Dataset, Remark, Split, nfc
from handlens.errors import InputError
from handlens.files import read_json
from handlens.palette import IGNORE

FORMAT = "coco"
HEAD_CHARACTERS = 64 * 1024  # `recognise` reads no more of a file of 450 MB
READ_OF_IMAGES = {"id", "file_name", "width", "height"}
READ_OF_ANNOTATIONS = {"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd", "ignore"}
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


@dataclass(frozen=True)
class Source:
    """What the files of a data set say beyond its records.

    Attributes:
        images, annotations: of each image: its entry, and the annotations of its boxes, in their order.
        rest: info, licenses and so on, where all files say the same. differing: keys of what they do not.
    """

    categories: dict[int, Mapping[str, Any]]
    images: dict[Path, Mapping[str, Any]]
    annotations: dict[Path, list[Mapping[str, Any]]]
    rest: dict[str, Any]
    differing: tuple[str, ...]


def recognise(path: Path) -> bool:
    return any(map(_looks_like_coco, Tree(path).labels(path, ".json")))


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: every JSON is damaged or is not COCO's; files that disagree about a category or both list an
            image; no image found whose annotations can be used; no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    files, remarks = instances(tree, path)
    class_names, index, merged = numbered_classes(_names(categories(files)), config)
    images, said = images_below(tree, path, labels={".json"})
    finder = ImageFinder(tree, images)
    found: dict[Path, Found] = {}
    first: dict[Path, Instances] = {}  # which file lists an image
    missing: list[str] = []
    faults: dict[str, str] = {}
    for file in files:
        broken = [(name, None) for name in file.faults]
        for name, image in [*broken, *((image["file_name"], image) for image in file.images)]:
            try:
                image_path = finder.find(name, near=file)
            except InputError as error:
                faults[name] = str(error)
                continue
            if image_path is None and image is not None:
                missing.append(name)
            elif image is None:
                faults[name if image_path is None else tree.id(image_path)] = file.faults[name]
            elif image_path in first and first[image_path] is not file:
                raise InputError(f"{name} of {file.path} is also in {first[image_path].path}; keep it in one.")
            elif image_path in first:
                faults[tree.id(image_path)] = f"{name} is listed twice in {file.path}; list each image once."
            if image_path is None:
                continue
            first.setdefault(image_path, file)
            if image is None:
                continue
            boxes = tuple(_box(a, index[a["category_id"]]) for a in file.annotations.get(image["id"], ()))
            found[image_path] = Found(
                path=image_path,
                label=boxes,
                stated_size=_stated_size(image),
                split=file.split or split_by_folder(tree, image_path),
            )
    found = {image_path: item for image_path, item in found.items() if tree.id(image_path) not in faults}
    reasons = [*faults.values(), *(reason for file in files for reason in file.strays)]
    if reasons and not any(item.label for item in found.values()):
        raise InputError(reasons[0])
    if missing and not found:
        raise InputError(f"none of the {len(missing)} images that {files[0].path} lists exists: {named(missing)}.")
    remarks += [unusable(faults)] if faults else []
    remarks += [remark("listed_missing", "skipped, listed but not found", missing)] if missing else []
    unlisted = [tree.id(image_path) for image_path in images if image_path not in first]
    remarks += [remark("without_label", "skipped, images that no JSON lists", unlisted)] if unlisted else []
    all_or_none([item.split for item in found.values()], str(path))
    return assemble_boxes(
        path,
        format=FORMAT,
        class_names=class_names,
        found=found.values(),
        config=config,
        notes=[*said, *merged, *remarks],
    )


def source_of(dataset: Dataset) -> Source:
    """Of a data set read from COCO.

    Raises:
        InputError: the files have changed since.
    """
    tree = Tree(dataset.root)
    files, _ = instances(tree, dataset.root)
    finder = ImageFinder(tree, [record.path for record in dataset.records])
    images: dict[Path, Mapping[str, Any]] = {}
    annotations: dict[Path, list[Mapping[str, Any]]] = {}
    for file in files:
        for image in file.images:
            image_path = finder.find(image["file_name"], near=file)
            if image_path is not None:
                images[image_path] = image
                entries = file.annotations.get(image["id"], ())
                annotations[image_path] = [entry for entry in entries if has_area(_box(entry, 0))]
    for record in dataset.records:
        if len(annotations.get(record.path, ())) != len(record.label or ()):
            raise InputError(f"the annotations of {record.id} have changed since they were read.")
    keys = dict.fromkeys(key for file in files for key in file.rest)
    same = [key for key in keys if all(file.rest.get(key) == files[0].rest.get(key) for file in files)]
    differing = tuple(key for key in keys if key not in same)
    rest = {key: files[0].rest[key] for key in same}
    return Source(categories(files), images, annotations, rest, differing)


def lost_keys(source: Source, images: Iterable[Path]) -> list[str]:
    """A sentence about the fields that only COCO can store; segmentations and marks are reported elsewhere."""
    paths = list(images)
    groups = {
        "annotations": ([a for path in paths for a in source.annotations[path]], READ_OF_ANNOTATIONS),
        "images": ([source.images[path] for path in paths], READ_OF_IMAGES),
        "categories": (list(source.categories.values()), {"id", "name"}),
    }
    named_keys = {where: sorted({k for e in entries for k in e} - read) for where, (entries, read) in groups.items()}
    named_keys["file"] = [*source.rest, *source.differing]
    said = [f"{where}: {', '.join(keys)}" for where, keys in named_keys.items() if keys]
    return [f"COCO fields that the format cannot store: {'; '.join(said)}"] if said else []


def instances(tree: Tree, root: Path) -> tuple[list[Instances], list[Remark]]:
    """The files with boxes below a folder, and remarks about those that are damaged or without.

    Raises:
        InputError: there is none; all are damaged.
    """
    paths = [path for path in tree.labels(root, ".json") if _looks_like_coco(path)]
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


def class_mask(
    annotations: Iterable[Mapping[str, Any]], *, size: tuple[int, int], index: Mapping[int, int]
) -> NDArray[np.uint8]:
    """The outlines of one image's objects as one mask; 0 where there is none.

    Where objects overlap, the smaller is on top (our choice). The pixels of a crowd, and the box of an object without
    outline, are IGNORE wherever no other object is.

    Args:
        annotations: of COCO, with category_id, bbox and segmentation.
        size: (height, width) of the image, in pixels.
        index: category id -> number in the mask.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: run lengths for another size, a polygon of two points.
    """
    mask = np.zeros(size, dtype=np.uint8)
    objects: list[tuple[int, int, NDArray[np.bool_]]] = []
    for annotation in annotations:
        outline = outline_of(annotation)
        try:
            pixels = render(outline, size=size)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"annotation {annotation.get('id')}: its segmentation is invalid: {error}.") from None
        if outline and not annotation.get("iscrowd"):
            objects.append((int(pixels.sum()), index[annotation["category_id"]], pixels))
            continue
        if not outline:
            left, top, width, height = annotation["bbox"]
            rows = slice(max(math.floor(top), 0), max(math.ceil(top + height), 0))
            pixels[rows, max(math.floor(left), 0) : max(math.ceil(left + width), 0)] = True
        mask[pixels] = IGNORE
    for _, number, pixels in sorted(objects, key=lambda item: -item[0]):
        mask[pixels] = number
    return mask


def outline_of(annotation: Mapping[str, Any]) -> Any:
    """Polygons or run lengths as they are stored; [] where there are none, and without the empty polygons that tools
    leave behind."""
    outline = annotation.get("segmentation") or []
    return [polygon for polygon in outline if polygon] if isinstance(outline, list) else outline


class ImageFinder:
    """Where the images are that a JSON names, whatever folder it was written from; by NFC."""

    def __init__(self, tree: Tree, images: Iterable[Path]) -> None:
        self.tree = tree
        self._by_name: dict[str, list[tuple[str, Path]]] = {}
        for image in images:
            self._by_name.setdefault(nfc(image.name), []).append((nfc(tree.id(image)), image))

    def find(self, name: str, *, near: Instances) -> Path | None:
        """The image whose path ends like `name`; of several, the one in the JSON's folder or split.

        Raises:
            InputError: several remain.
        """
        parts = PurePosixPath(nfc(name.replace("\\", "/"))).parts
        if not parts:
            return None
        same = self._by_name.get(parts[-1], [])
        for start in range(len(parts)):  # "train2017/a.jpg" first; a.jpg alone where no such folder is there
            ending = "/" + "/".join(parts[start:])
            fitting = [(id, path) for id, path in same if f"/{id}".endswith(ending)]
            if fitting:
                break
        else:
            return None
        for wanted in (
            lambda path: path.parent == near.path.parent,
            lambda path: near.split is not None and split_by_folder(self.tree, path) == near.split,
        ):
            if len(fitting) > 1:
                fitting = [(id, path) for id, path in fitting if wanted(path)] or fitting
        if len(fitting) > 1:
            raise InputError(
                f"{name!r} of {near.path} may be {' or '.join(id for id, _ in fitting[:3])}; give file_name a folder."
            )
        return fitting[0][1]


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(HEAD_CHARACTERS)
    except OSError:
        return False
    if not head.lstrip().startswith("{"):
        return False
    lists = [re.search(rf"{key}\s*:\s*\[", head) for key in KEYS]
    return sum(map(bool, lists)) >= (2 if len(head) < HEAD_CHARACTERS else 1)  # captions have no categories


def _instances(tree: Tree, path: Path) -> Instances | None:
    """None where the annotations have neither boxes nor categories: captions, images without labels.

    Raises:
        InputError: the file is damaged, or a category is.
    """
    content = read_json(path)
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
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(value) for value in box):
        raise InputError(f"{where} has the bbox {box}; x, y, width and height are expected.")
    return annotation


def _names(categories: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
    return {id: entry["name"] for id, entry in categories.items()}


def _stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height), where the file says it; some tools write 0."""
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _box(annotation: Mapping[str, Any], label: int) -> Box:
    left, top, width, height = annotation["bbox"]
    area = annotation.get("area")
    if area is None or not _finite(area) or math.isclose(area, width * height, rel_tol=1e-6, abs_tol=1e-3):
        area = None
    return replace(
        corners(label, left, top, left + width, top + height),
        area=None if area is None else float(area),
        crowd=bool(annotation.get("iscrowd", 0)),
        difficult=bool(annotation.get("ignore", 0)),
    )
