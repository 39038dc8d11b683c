"""COCO: one JSON of images, annotations and categories, or one per split (instances_train2017.json).

A box is x, y, width, height from the image's upper left corner, in pixels at edges; an object with an outline and no
box has the box around it. Categories are taken in the order of their ids. `ignore`, which converters from VOC write,
is read as difficult.

Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found, assemble_boxes, corners, named
from handlens.data.formats.class_names import numbered_classes
from handlens.data.formats.coco_file import Instances, categories, finite, instances, looks_like_coco
from handlens.data.formats.coco_source import Entries, Source
from handlens.data.formats.label_files import all_or_none, images_below, remark, split_by_folder, unusable
from handlens.data.labels.boxes import Box, has_area
from handlens.data.listing import Tree
from handlens.data.record import Dataset, nfc
from handlens.errors import InputError

FORMAT = "coco"


def recognize(path: Path) -> bool:
    return any(map(looks_like_coco, Tree(path).labels(path, ".json")))


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: every JSON is damaged or is not COCO's; files that disagree about a category or both list an
            image; no image found whose annotations can be used; no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    files, remarks = instances(tree, path)
    names = {id: entry["name"] for id, entry in categories(files).items()}
    class_names, index, merged = numbered_classes(names, config)
    images, said = images_below(tree, path, labels={".json"})
    finder = ImageFinder(tree, images)
    found: dict[Path, Found] = {}
    first: dict[Path, Instances] = {}  # which file lists an image
    entries: dict[Path, Entries] = {}
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
            annotations = file.annotations[image["id"]]
            boxes = tuple(_box(annotation, index[annotation["category_id"]]) for annotation in annotations)
            used = [annotation for annotation, box in zip(annotations, boxes, strict=True) if has_area(box)]
            entries[image_path] = image, used
            found[image_path] = Found(
                path=image_path,
                label=boxes,
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
    dataset = assemble_boxes(
        path,
        format=FORMAT,
        class_names=class_names,
        found=found.values(),
        config=config,
        stated_sizes={path: size for path, (image, _) in entries.items() if (size := _stated_size(image))},
        notes=[*said, *merged, *remarks],
    )
    return replace(dataset, source=Source.of(files, entries))


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


def _stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height), where the file says it; some tools write 0."""
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _box(annotation: Mapping[str, Any], label: int) -> Box:
    left, top, width, height = annotation["bbox"]
    area = annotation.get("area")
    if area is None or not finite(area) or math.isclose(area, width * height, rel_tol=1e-6, abs_tol=1e-3):
        area = None
    return replace(
        corners(label, left, top, left + width, top + height),
        area=None if area is None else float(area),
        crowd=bool(annotation.get("iscrowd", 0)),
        difficult=bool(annotation.get("ignore", 0)),
    )
