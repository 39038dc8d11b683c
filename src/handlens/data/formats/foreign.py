"""Labels of tools that are not read: named, so that nobody trains on the same images without them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from handlens.data.listing import Tree
from handlens.errors import InputError
from handlens.reading.text import read_text_start

HEAD = 64 * 1024  # bytes of a file that are looked at
LOOKED_AT = 20  # files of a kind

# What a tool is called, what all of its files have near their beginning, and how to get labels that are read.
JSON = (
    ("LabelMe", ('"shapes"', '"imagePath"'), "labelme2coco or the tool's labelme2voc.py writes COCO or VOC"),
    (
        "Supervisely",
        ('"objects"', '"geometryType"|"classTitle"|"size"', '"tags"'),
        "export as COCO or Pascal VOC there",
    ),
    ("VGG Image Annotator", ('"regions"', '"shape_attributes"'), "export as COCO there"),
    ("Label Studio", ('"from_name"|"annotations"', '"result"'), "export as COCO, Pascal VOC or YOLO there"),
    ("CreateML", ('"image"\\s*:\\s*"', '"annotations"', '"coordinates"'), "export as COCO or YOLO there"),
)
XML = (("CVAT", ("<annotations>", "<image "), "export as COCO 1.0, PASCAL VOC 1.1 or YOLO 1.1 there"),)


def refuse_foreign(path: Path) -> None:
    """
    Raises:
        InputError: files below the folder are the labels of a tool whose format is not read.
    """
    tree = Tree(path)
    for extension, tools in ((".json", JSON), (".xml", XML)):
        for file in itertools.islice(tree.labels(path, extension), LOOKED_AT):
            head = read_text_start(file, HEAD)
            for tool, patterns, way in tools:
                if all(re.search(pattern, head) for pattern in patterns):
                    raise InputError(
                        f"{tree.id(file)} looks like labels of {tool}, which are not read: {way}. To use the images "
                        "without them, give --format flat, or folders or csv where their classes stand there."
                    )
    if (path / "gtFine").is_dir() and (path / "leftImg8bit").is_dir():
        raise InputError(
            f"{path} looks like Cityscapes: write into handlens.yaml masks: {{images: leftImg8bit, image_suffix: "
            "_leftImg8bit, masks: gtFine, suffix: _gtFine_labelIds, values: {7: road, 8: sidewalk, 11: building}}, "
            "with the other classes, and ignore for every other number from 0 to 33 (docs/data.md has the list)."
        )
