"""Images with boxes as VOC, COCO and YOLO. Each writer returns sentences about what its format does not hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handlens.data.formats.assemble import named
from handlens.data.formats.coco_file import outline_of
from handlens.data.formats.coco_source import Source, lost_keys
from handlens.data.formats.writing import SHORT, Item, copy, lost_marks, write, write_config, write_lists
from handlens.data.record import Dataset, Split, nfc
from handlens.names import as_json, as_yaml


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
    return lost + lost_marks(items, "crowd", "area") + _lost_of_coco(dataset, items)


def write_coco(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    """From COCO to COCO all that the files say is kept, ids for one, where each is there once."""
    source: Source | None = dataset.source
    categories: dict[int, Mapping[str, Any]] = {n: {"name": s} for n, s in enumerate(dataset.class_names, start=1)}
    rest: dict[str, Any] = {}
    lost: list[str] = []
    if source is not None:
        rest = source.rest
        if source.differing:
            lost.append(f"what the files say differently of themselves: {', '.join(source.differing)}")
        if {nfc(entry["name"]) for entry in source.categories.values()} <= set(dataset.class_names):
            categories = source.categories
        else:
            lost.append("numbers of the categories, which have other names in handlens.yaml")
    number_of = {nfc(entry["name"]): number for number, entry in reversed(categories.items())}
    images = [source.images[item.record.path] if source else {} for item in items]
    known: list[Sequence[Mapping[str, Any]]] = [
        source.annotations[item.record.path] if source else [{}] * len(item.boxes) for item in items
    ]
    image_ids, said = _ids(images, "images", source)
    annotation_ids, also = _ids([annotation for several in known for annotation in several], "annotations", source)
    numbers = iter(annotation_ids)
    parts: dict[Split | None, tuple[list[Any], list[Any]]] = {}
    for item, image, image_id, several in zip(items, images, image_ids, known, strict=True):
        copy(item, folder / "images" / item.part)
        listed, annotations = parts.setdefault(item.record.split, ([], []))
        size = {"width": item.size[1], "height": item.size[0]}
        listed.append({**image, "id": image_id, "file_name": item.name, **size})
        for box, annotation in zip(item.boxes, several, strict=True):
            width, height = round(box.right - box.left, 4), round(box.bottom - box.top, 4)
            annotations.append(
                {
                    **annotation,
                    "id": next(numbers),
                    "image_id": image_id,
                    "category_id": number_of[dataset.class_names[box.label]],
                    "bbox": [box.left, box.top, width, height],
                    "iscrowd": int(box.crowd),
                    "area": round(width * height, 4) if box.area is None else box.area,
                }
                | ({"ignore": 1} if box.difficult else {})
            )
    for split, (listed, annotations) in parts.items():
        entries = [{**entry, "id": number} for number, entry in categories.items()]
        content = {**rest, "images": listed, "annotations": annotations, "categories": entries}
        name = "instances.json" if split is None else f"instances_{SHORT[split]}.json"
        write(folder / "annotations" / name, as_json(content))
    return [*lost, *said, *also]


def _ids(entries: Sequence[Mapping[str, Any]], what: str, source: Source | None) -> tuple[list[Any], list[str]]:
    """Their own where each is there once, else 1, 2, 3 ..., which is said where there were some."""
    ids = [entry.get("id") for entry in entries]
    if source is not None and None not in ids and len(set(ids)) == len(ids):
        return ids, []
    return list(range(1, len(ids) + 1)), [f"ids of {what}, not each there once"] if source is not None else []


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
    write(folder / "data.yaml", as_yaml(content))
    lost = [f"boxes outside their image, clipped: {named(outside)}"] if outside else []
    return lost + lost_marks(items, "crowd", "difficult", "area") + _lost_of_coco(dataset, items)


def _lost_of_coco(dataset: Dataset, items: Sequence[Item]) -> list[str]:
    source: Source | None = dataset.source
    if source is None:
        return []
    annotations = [annotation for item in items for annotation in source.annotations[item.record.path]]
    outlines = sum(bool(outline_of(annotation)) for annotation in annotations)
    lost = [f"segmentations of boxes: {outlines}"] if outlines else []
    return lost + lost_keys(source, [item.record.path for item in items])


def _element(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
