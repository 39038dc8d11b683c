"""Pictures with boxes as VOC, COCO and YOLO. Each writer returns sentences about what its format does not hold."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from handlens.data.formats.assemble import named
from handlens.data.formats.coco import outline_of, source_annotations
from handlens.data.formats.writing import SHORT, Item, copy, lost_marks, write, write_config, write_lists
from handlens.data.record import Dataset, nfc


def write_voc(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    for item in items:
        copy(item, folder / "JPEGImages")
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
        write(folder / "Annotations" / f"{item.stem}.xml", ET.tostring(root, encoding="unicode") + "\n")
    write_lists(items, folder / "ImageSets" / "Main")
    write_config(folder, {"format": "voc", "class_names": list(dataset.class_names)})
    points = sum(box.left + 1 == box.right and box.top + 1 == box.bottom for item in items for box in item.boxes)
    lost = [f"boxes of one pixel, which VOC cannot tell from a point: {points}"] if points else []
    return lost + lost_marks(items, "crowd", "area") + _lost_outlines(dataset, items)


def write_coco(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    """From COCO to COCO categories keep their ids and annotations all they hold, outlines for one."""
    numbers = dict(enumerate(dataset.class_names, start=1))
    sources: dict[Path, list[Mapping[str, Any]]] = {}
    lost: list[str] = []
    if dataset.format == "coco":
        categories, sources = source_annotations(dataset)
        if {nfc(name) for name in categories.values()} <= set(dataset.class_names):
            numbers = categories
        else:
            lost.append("numbers of the categories, which have other names in handlens.yaml")
    number_of = {nfc(name): number for number, name in reversed(numbers.items())}
    splits = dict.fromkeys(item.record.split for item in items)
    ids = {item.name: number for number, item in enumerate(items, start=1)}
    annotation_id = 0
    for split in splits:
        part = [item for item in items if item.record.split == split]
        annotations: list[dict[str, Any]] = []
        for item in part:
            copy(item, folder / "images" / item.part)
            source = sources.get(item.record.path, [{}] * len(item.boxes))
            for box, known in zip(item.boxes, source, strict=True):
                annotation_id += 1
                width, height = round(box.right - box.left, 4), round(box.bottom - box.top, 4)
                annotation: dict[str, Any] = {
                    **known, "id": annotation_id, "image_id": ids[item.name],
                    "category_id": number_of[dataset.class_names[box.label]],
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
            "categories": [{"id": number, "name": name} for number, name in numbers.items()],
        }
        name = "instances.json" if split is None else f"instances_{SHORT[split]}.json"
        write(folder / "annotations" / name, json.dumps(content, ensure_ascii=False))
    return lost


def write_yolo(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    outside: list[str] = []
    for item in items:
        copy(item, folder / "images" / item.part)
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
        write(folder / "labels" / item.part / f"{item.stem}.txt", "".join(f"{line}\n" for line in lines))
    splits = {item.record.split for item in items}
    places = {SHORT[split]: f"images/{SHORT[split]}" for split in SHORT if split in splits}
    content = {**places, "names": dict(enumerate(dataset.class_names))}  # without path: the file's own folder
    write(folder / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    lost = [f"boxes outside their picture, clipped: {named(outside)}"] if outside else []
    return lost + lost_marks(items, "crowd", "difficult", "area") + _lost_outlines(dataset, items)


def _lost_outlines(dataset: Dataset, items: Sequence[Item]) -> list[str]:
    if dataset.format != "coco":
        return []
    _, sources = source_annotations(dataset)
    count = sum(bool(outline_of(annotation)) for item in items for annotation in sources[item.record.path])
    return [f"outlines of {count} boxes"] if count else []


def _element(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
