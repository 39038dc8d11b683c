"""COCO: one JSON of images, annotations and categories, or one per split (instances_train2017.json).

A box is x, y, width, height from the picture's upper left corner, in pixels at edges; an object with an outline and no
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
from handlens.data.formats.label_files import all_or_none, pictures_below, remark, split_by_folder
from handlens.data.formats.split_names import split_of
from handlens.data.listing import Tree
from handlens.data.outlines import frame, render
from handlens.data.record import IGNORE, Box, Dataset, Remark, Split, nfc
from handlens.errors import InputError
from handlens.files import read_json

FORMAT = "coco"
HEAD_CHARACTERS = 64 * 1024  # `recognise` reads no more of a file of 450 MB
KEYS = ('"images"', '"annotations"', '"categories"')


@dataclass(frozen=True)
class Instances:
    """One file, checked: images and annotations have what is read from them.

    Attributes:
        annotations: by the id of their image.
        categories: id -> name; ids are numbers, or texts in all files.
    """

    path: Path
    split: Split | None
    images: list[Mapping[str, Any]]
    annotations: dict[Any, list[Mapping[str, Any]]]
    categories: dict[int, str]


def recognise(path: Path) -> bool:
    return any(map(_looks_like_coco, Tree(path).labels(path, ".json")))


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: JSON that is damaged or is not COCO's; an annotation without image, category or box; files that
            disagree about a category; no picture found; no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    files, notes = instances(tree, path)
    class_names, index, merged = numbered_classes(categories(files), config)
    pictures, said = pictures_below(tree, path)
    finder = PictureFinder(tree, pictures)
    found: dict[Path, Found] = {}
    missing: list[str] = []
    for file in files:
        for image in file.images:
            name = str(image["file_name"])
            picture = finder.find(name, near=file)
            if picture is None:
                missing.append(name)
                continue
            if picture in found:
                raise InputError(f"{name} is listed twice, again in {file.path}; list each picture once.")
            boxes = tuple(_box(a, index[a["category_id"]]) for a in file.annotations.get(image["id"], ()))
            found[picture] = Found(
                path=picture, boxes=boxes, stated_size=_stated_size(image),
                split=file.split or split_by_folder(tree, picture),
            )  # fmt: skip
    if missing and not found:
        raise InputError(f"none of the {len(missing)} pictures that {files[0].path} lists is here: {named(missing)}.")
    remarks = [remark("listed_missing", "left aside, listed and not found", missing)] if missing else []
    unlisted = [tree.id(picture) for picture in pictures if picture not in found]
    if unlisted:
        remarks.append(remark("without_label", "left aside, pictures that no JSON lists", unlisted))
    all_or_none([item.split for item in found.values()], str(path))
    return assemble_boxes(
        path, format=FORMAT, class_names=class_names, found=found.values(), config=config,
        notes=[*notes, *said, *merged, *remarks],
    )  # fmt: skip


def source_annotations(dataset: Dataset) -> tuple[dict[int, str], dict[Path, list[Mapping[str, Any]]]]:
    """Of a data set read from COCO: category id -> name, and the annotations of each picture's boxes, in their order.

    Raises:
        InputError: the files have changed since.
    """
    tree = Tree(dataset.root)
    files, _ = instances(tree, dataset.root)
    finder = PictureFinder(tree, [record.path for record in dataset.records])
    by_picture: dict[Path, list[Mapping[str, Any]]] = {record.path: [] for record in dataset.records}
    for file in files:
        for image in file.images:
            picture = finder.find(str(image["file_name"]), near=file)
            if picture is not None:
                annotations = file.annotations.get(image["id"], ())
                by_picture[picture] = [annotation for annotation in annotations if has_area(_box(annotation, 0))]
    for record in dataset.records:
        if len(by_picture[record.path]) != len(record.boxes or ()):
            raise InputError(f"the annotations of {record.id} have changed since they were read.")
    return categories(files), by_picture


def instances(tree: Tree, root: Path) -> tuple[list[Instances], list[Remark]]:
    """The files with boxes below a folder, and a remark about those without.

    Raises:
        InputError: there is none; one of them is damaged.
    """
    paths = [path for path in tree.labels(root, ".json") if _looks_like_coco(path)]
    stated = [path for path in paths if path.name.lower().startswith("instances")]
    files: list[Instances] = []
    aside = [tree.id(path) for path in paths if stated and path not in stated]
    for path in stated or paths:
        file = _instances(tree, path)
        if file is None:
            aside.append(tree.id(path))
        else:
            files.append(file)
    if not files:
        raise InputError(f"{root} has no JSON of COCO's instances, with images, annotations and categories.")
    if not aside:
        return files, []
    return files, [remark("without_boxes", "left aside, JSON without boxes", aside, level="note")]


def categories(files: Sequence[Instances]) -> dict[int, str]:
    """
    Raises:
        InputError: two files give one id two names; there is no category.
    """
    names: dict[int, str] = {}
    for file in files:
        for id, name in file.categories.items():
            if names.setdefault(id, name) != name:
                raise InputError(f"category {id} is {names[id]!r}, and {name!r} in {file.path}.")
    if len(set(map(type, names))) > 1:
        raise InputError(f"some categories of {files[0].path} have numbers as ids and some texts; use numbers.")
    return names


def class_mask(
    annotations: Iterable[Mapping[str, Any]], *, size: tuple[int, int], index: Mapping[int, int]
) -> NDArray[np.uint8]:
    """The outlines of one picture's objects as one mask; 0 where there is none.

    Where objects overlap, the smaller is on top (our choice). The pixels of a crowd, and the box of an object without
    outline, are IGNORE wherever no other object is.

    Args:
        annotations: of COCO, with category_id, bbox and segmentation.
        size: (height, width) of the picture, in pixels.
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
            raise InputError(f"annotation {annotation.get('id')}: its segmentation is wrong: {error}.") from None
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


class PictureFinder:
    """Where the pictures are that a JSON names, whatever folder it was written from; by NFC."""

    def __init__(self, tree: Tree, pictures: Iterable[Path]) -> None:
        self.tree = tree
        self._by_name: dict[str, list[tuple[str, Path]]] = {}
        for picture in pictures:
            self._by_name.setdefault(nfc(picture.name), []).append((nfc(tree.id(picture)), picture))

    def find(self, name: str, *, near: Instances) -> Path | None:
        """The picture whose path ends like `name`; of several, the one in the JSON's folder or split.

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
    """None where the annotations have neither boxes nor categories: captions, pictures without labels."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(key[1:-1]), list) for key in KEYS):
        return None
    if content["annotations"] and not any("bbox" in a or "segmentation" in a for a in content["annotations"]):
        return None
    for image in content["images"]:
        _need(image, ("id", "file_name"), f"an image of {path}")
    for category in content["categories"]:
        _need(category, ("id", "name"), f"a category of {path}")
    _distinct([image["id"] for image in content["images"]], f"two images of {path}")
    _distinct([category["id"] for category in content["categories"]], f"two categories of {path}")
    numbers = {category["id"]: str(category["name"]) for category in content["categories"]}
    ids = {image["id"] for image in content["images"]}
    annotations: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in content["annotations"]:
        where = f"annotation {annotation.get('id')} of {path}"
        _need(annotation, ("image_id", "category_id"), where)
        if annotation["image_id"] not in ids:
            raise InputError(f"{where} is about image {annotation['image_id']}, which is not listed.")
        if annotation["category_id"] not in numbers:
            raise InputError(f"{where} has category {annotation['category_id']}, which is not listed.")
        annotation = _with_bbox(annotation, where)
        annotations.setdefault(annotation["image_id"], []).append(annotation)
    split = split_of(path.stem) or split_by_folder(tree, path)
    return Instances(path, split, content["images"], annotations, numbers)


def _need(entry: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}, not an object.")
    lacking = [key for key in keys if key not in entry]
    if lacking:
        raise InputError(f"{where} has no {' and no '.join(lacking)}.")
    for key in keys:
        if (key == "id" or key.endswith("_id")) and not isinstance(entry[key], int | str):
            raise InputError(f"{where} has {key} = {entry[key]!r}; a number is expected.")


def _distinct(ids: list[Any], what: str) -> None:
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"{what} have the id {twice[0]}, and whose annotations are whose cannot be told.")


def _with_bbox(annotation: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The annotation with a checked bbox: its own, or the one around its outline."""
    if "bbox" not in annotation and outline_of(annotation):
        try:
            annotation = {**annotation, "bbox": frame(outline_of(annotation))}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where} has no bbox, and its segmentation is wrong: {error}.") from None
    _need(annotation, ("bbox",), where)
    box = annotation["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(value) for value in box):
        raise InputError(f"{where} has the bbox {box}; x, y, width and height are expected.")
    return annotation


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
