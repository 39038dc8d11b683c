"""What COCO says beyond boxes, for whoever writes it elsewhere: outlines, ids, and keys that no other format has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.formats.coco_file import Instances, categories, outline_of
from handlens.data.outlines import render
from handlens.errors import InputError
from handlens.palette import IGNORE

READ_OF_IMAGES = {"id", "file_name", "width", "height"}
READ_OF_ANNOTATIONS = {"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd", "ignore"}


Entries = tuple[Mapping[str, Any], list[Mapping[str, Any]]]  # an image's own, and the annotations of its boxes


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

    @classmethod
    def of(cls, files: Sequence[Instances], entries: Mapping[Path, Entries]) -> Source:
        keys = dict.fromkeys(key for file in files for key in file.rest)
        same = [key for key in keys if all(file.rest.get(key) == files[0].rest.get(key) for file in files)]
        return cls(
            categories(files),
            images={path: image for path, (image, _) in entries.items()},
            annotations={path: annotations for path, (_, annotations) in entries.items()},
            rest={key: files[0].rest[key] for key in same},
            differing=tuple(key for key in keys if key not in same),
        )


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
