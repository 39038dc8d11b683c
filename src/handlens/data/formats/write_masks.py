"""Images with a class per pixel as VOC or as images/ and masks/. Each writer returns sentences about what is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.data.formats.coco_file import outline_of
from handlens.data.formats.coco_source import Source, class_mask, lost_keys
from handlens.data.formats.writing import Item, copy, lost_marks, write_config, write_lists
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Dataset, nfc
from handlens.errors import InputError
from handlens.palette import IGNORE

BACKGROUND = "background"


def write_voc_masks(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    def place(item: Item) -> tuple[Path, Path]:
        return folder / "JPEGImages", folder / "SegmentationClass"

    items, lost = _write_pairs(items, place, mask_of=lambda item: _mask(dataset, item))
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)  # by which the format is recognized
    write_lists(items, folder / "ImageSets" / "Segmentation")
    _write_coding(folder, "voc-masks", dataset.class_names)
    return lost


def write_masks(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    _, lost = _write_pairs(items, _beside(folder), mask_of=lambda item: _mask(dataset, item))
    _write_coding(folder, "masks", dataset.class_names)
    return lost


def write_outlines(dataset: Dataset, items: Sequence[Item], folder: Path) -> list[str]:
    source: Source = dataset.source
    names = {id: entry["name"] for id, entry in source.categories.items()}
    renamed = [name for name in names.values() if nfc(name) not in dataset.class_names]
    if renamed:
        raise InputError(f"class {renamed[0]!r} has another name in handlens.yaml; convert without class_names there.")
    class_names = (BACKGROUND, *(name for name in dataset.class_names if name != BACKGROUND))
    number_of = {id: class_names.index(nfc(name)) for id, name in names.items()}
    items, lost = _write_pairs(
        items,
        _beside(folder),
        mask_of=lambda item: class_mask(source.annotations[item.record.path], size=item.size, index=number_of),
    )
    _write_coding(folder, "masks", class_names)
    without = sum(not outline_of(entry) for item in items for entry in source.annotations[item.record.path])
    lost += [f"objects without a segmentation, their boxes ignored: {without}"] if without else []
    lost += ["which pixels belong to which object of a class", *lost_marks(items, "crowd", "difficult", "area")]
    return lost + lost_keys(source, [item.record.path for item in items])


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) colors of class 0 to 255. Source: VOCdevkit, VOClabelcolormap.m: the bits of the number, spread."""
    numbers = np.arange(256)
    bits = numbers[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1  # (256, 8, 3)
    return np.asarray((bits << (7 - np.arange(8)[:, None])).sum(axis=1)).astype(np.uint8)


def _beside(folder: Path) -> Callable[[Item], tuple[Path, Path]]:
    return lambda item: (folder / "images" / item.part, folder / "masks" / item.part)


def _write_pairs(
    items: Sequence[Item],
    place: Callable[[Item], tuple[Path, Path]],
    *,
    mask_of: Callable[[Item], NDArray[np.uint8]],
) -> tuple[list[Item], list[str]]:
    """The items whose mask could be made, and sentences about the others.

    Args:
        place: the folders of an image and of its mask.

    Raises:
        InputError: no mask can be made; the first one's reason.
    """
    written: list[Item] = []
    reasons: list[str] = []
    for item in items:
        try:
            mask = mask_of(item)
        except InputError as error:
            reasons.append(f"skipped, {item.record.id}: {error}")
            continue
        images, masks = place(item)
        copy(item, images)
        _save_mask(mask, masks / f"{item.stem}.png")
        written.append(item)
    if not written:
        raise InputError(reasons[0])
    return written, reasons


def _write_coding(folder: Path, format: str, class_names: Sequence[str]) -> None:
    """Said for every number: 0 and 255 alone would be taken for two classes."""
    values: dict[int, int | str] = {number: number for number in range(len(class_names))}
    content = {"format": format, "class_names": list(class_names), "masks": {"values": values | {IGNORE: "ignore"}}}
    write_config(folder, content)


def _mask(dataset: Dataset, item: Item) -> NDArray[np.uint8]:
    assert isinstance(dataset.kind, MaskLabels)
    return dataset.kind.read(item.record.label, size=item.size)


def _save_mask(mask: NDArray[np.uint8], path: Path) -> None:
    """(H, W) as a PNG with VOC's palette, whose indices are the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    image.save(path)
