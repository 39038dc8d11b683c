"""Pictures with a class per pixel as VOC or as images/ and masks/. Each writer returns sentences about what is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.data.formats.coco import class_mask, outline_of, source_annotations
from handlens.data.formats.writing import Item, copy, lost_marks, write_config, write_lists
from handlens.data.masks import read_mask
from handlens.data.record import IGNORE, Dataset, nfc
from handlens.errors import InputError

BACKGROUND = "background"


def write_voc_masks(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    for item in items:
        copy(item, folder / "JPEGImages")
        _save_mask(_mask(dataset, item), folder / "SegmentationClass" / f"{item.stem}.png")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)  # by which the format is recognised
    write_lists(items, folder / "ImageSets" / "Segmentation")
    _write_coding(folder, "voc-masks", dataset.class_names)
    return []


def write_masks(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    return _write_pairs(items, folder, dataset.class_names, mask_of=lambda item: _mask(dataset, item))


def write_outlines(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    names, sources = source_annotations(dataset)
    renamed = [name for name in names.values() if nfc(name) not in dataset.class_names]
    if renamed:
        raise InputError(f"class {renamed[0]!r} has another name in handlens.yaml; convert without class_names there.")
    class_names = (BACKGROUND, *(name for name in dataset.class_names if name != BACKGROUND))
    number_of = {id: class_names.index(nfc(name)) for id, name in names.items()}
    without = sum(not outline_of(annotation) for annotations in sources.values() for annotation in annotations)
    lost = _write_pairs(
        items, folder, class_names,
        mask_of=lambda item: class_mask(sources[item.record.path], size=item.size, index=number_of),
    )  # fmt: skip
    lost += [f"objects without an outline, their boxes ignored: {without}"] if without else []
    return [*lost, "which pixels belong to which object of a class", *lost_marks(items, "crowd", "difficult", "area")]


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) colours of class 0 to 255. Source: VOCdevkit, VOClabelcolormap.m: the bits of the number, spread."""
    numbers = np.arange(256)
    bits = numbers[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1  # (256, 8, 3)
    return np.asarray((bits << (7 - np.arange(8)[:, None])).sum(axis=1)).astype(np.uint8)


def _write_pairs(
    items: Sequence[Item], folder: Path, class_names: Sequence[str], *, mask_of: Callable[[Item], NDArray[np.uint8]]
) -> list[str]:
    for item in items:
        copy(item, folder / "images" / item.part)
        _save_mask(mask_of(item), folder / "masks" / item.part / f"{item.stem}.png")
    _write_coding(folder, "masks", class_names)
    return []


def _write_coding(folder: Path, format: str, class_names: Sequence[str]) -> None:
    """Said for every number: 0 and 255 alone would be taken for two classes."""
    values: dict[int, int | str] = {number: number for number in range(len(class_names))}
    content = {"format": format, "class_names": list(class_names), "masks": {"values": values | {IGNORE: "ignore"}}}
    write_config(folder, content)


def _mask(dataset: Dataset, item: Item) -> NDArray[np.uint8]:
    assert item.record.mask is not None and dataset.coding is not None
    return read_mask(item.record.mask, dataset.coding, size=item.size)


def _save_mask(mask: NDArray[np.uint8], path: Path) -> None:
    """(H, W) as a PNG with VOC's palette, whose indices are the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    image.save(path)
