"""What every format on disk is read into: images, what is known about each, and the class names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.palette import IGNORE as IGNORE

Split = Literal["train", "validation", "test"]
Task = Literal["classify", "tag", "segment", "detect"]
Level = Literal["error", "warning", "note"]
IMAGE_EXTENSIONS = frozenset(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif".split())  # noqa: SIM905


@dataclass(frozen=True, kw_only=True)
class Box:
    """One object in an image.

    Attributes:
        label: index into the data set's class names.
        left, top, right, bottom: pixels of the upright image, measured at edges: the whole image is
            0, 0, width, height, and a box around its first pixel 0, 0, 1, 1.
        area: square pixels of the object itself, where the data says so (COCO sorts by it); None: the box's.
        crowd: a box around many objects, which the evaluator neither expects nor punishes.
        difficult: VOC's mark for objects that the evaluator leaves out.
    """

    label: int
    left: float
    top: float
    right: float
    bottom: float
    area: float | None = None
    crowd: bool = False
    difficult: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """How the pixels of mask files become class indices: one for a whole data set.

    Attributes:
        values: stored number -> class index, or IGNORE; no other number is accepted. Empty, with no colors either:
            the stored numbers are the indices, and 255 is IGNORE.
        colors: stored (red, green, blue) -> class index, or IGNORE, for masks in colors. Empty for numbers.
    """

    values: Mapping[int, int] = field(default_factory=dict)
    colors: Mapping[tuple[int, int, int], int] = field(default_factory=dict)

    def renumbered(self, index: Mapping[int, int]) -> MaskCoding:
        """The same files read into other class indices: `index` is from these to those; IGNORE stays."""
        if self.colors:
            return MaskCoding(colors={c: index.get(i, IGNORE) for c, i in self.colors.items()})
        values = self.values or {i: i for i in index} | {IGNORE: IGNORE}
        return MaskCoding(values={value: index.get(i, IGNORE) for value, i in values.items()})


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something that reading left aside, changed or doubts.

    Attributes:
        code: a stable name for programs.
        message: a sentence for people.
        files: ids, or names as they stand in the data, of what it is about.
        level: a warning where the user may not want it, a note where the format is meant to be read so.
        lost: what is read is less than what is there, so that a copy of it would lack something.
        reasons: a sentence for each of `files`, where each has its own.
    """

    code: str
    message: str
    files: tuple[str, ...] = ()
    level: Level = "warning"
    lost: bool = True
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image.

    Attributes:
        path: where the file is, as found on disk: never normalized, so that it can be opened.
        id: its path below the data set's root, with "/", for tables and caches.
        target: index into the data set's class names, or None where nothing is known, or where mask or boxes say more.
        mask: the file with a class per pixel, as large as the image. Read by `masks.read_mask`.
        tags: indices into the class names, ascending, where an image may have several; () is one that has none of
            them.
        boxes: the objects; () is an image that is known to hold none, None one of which nothing is known.
        bad_boxes: what stands in the file as a box and is inverted or has no area: kept for the audit alone.
        stated_size: (width, height) of the image that the file with its boxes speaks of, where it does.
        split: given by the data, or None where a split is still to be made.
        group: images of one group (one patient, one burst of shots) never straddle a split.
    """

    path: Path
    id: str
    target: int | None = None
    tags: tuple[int, ...] | None = None
    mask: Path | None = None
    boxes: tuple[Box, ...] | None = None
    bad_boxes: tuple[Box, ...] = ()
    stated_size: tuple[int, int] | None = None
    split: Split | None = None
    group: str | None = None

    @property
    def labeled(self) -> bool:
        return any(label is not None for label in (self.target, self.tags, self.mask, self.boxes))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images in a stable order, and the names of their classes in index order.

    Attributes:
        root: the folder that was opened.
        format: which reader read it, as `--format` names it.
        task: what the labels are for.
        class_names: NFC, unique. Sorted by code point, except where the data itself numbers its classes (masks of
            numbers, YOLO, COCO) or, for masks and boxes, handlens.yaml lists them: then in that order. Empty where the
            images have no labels.
        records: sorted by id (code points).
        coding: of the masks; None where there are none.
        notes: sentences for people: what was guessed, which files are no part of it.
        remarks: what was left aside, changed or doubted of the labels.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    task: Task = "classify"
    coding: MaskCoding | None = None
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def __post_init__(self) -> None:
        names = sorted_class_names(self.class_names)
        in_order = self.task in ("classify", "tag")
        if (list(self.class_names) if in_order else sorted(self.class_names)) != names:
            raise ValueError(f"class names must be unique, NFC and sorted by code point, got {self.class_names}")
        if (self.task == "segment") != (self.coding is not None):
            raise ValueError(f"a coding of masks belongs to segmentation alone, got {self.coding} for {self.task}")
        for record in self.records:
            labels = [box.label for box in record.boxes or ()]
            labels += [*(record.tags or ()), *([] if record.target is None else [record.target])]
            for label in labels:
                if not 0 <= label < len(self.class_names):
                    raise ValueError(f"{record.id}: target {label} is outside {len(self.class_names)} classes")

    def part(self, split: Split) -> tuple[Record, ...]:
        """The records of one split, in order."""
        return tuple(record for record in self.records if record.split == split)

    def splits(self) -> tuple[Split, ...]:
        """The splits that the records name, in the order train, validation, test."""
        found = {record.split for record in self.records}
        order: tuple[Split, ...] = ("train", "validation", "test")
        return tuple(split for split in order if split in found)

    def class_counts(self, records: Iterable[Record] | None = None) -> dict[str, int]:
        """Images per class name, or boxes where the task is detection; classes without any are included. An image
        with several tags counts for each.

        Masks are not read here: for segmentation every count is 0.
        """
        chosen = self.records if records is None else records
        counts = Counter(record.target for record in chosen if record.target is not None)
        counts.update(tag for record in chosen for tag in record.tags or ())
        counts.update(box.label for record in chosen for box in record.boxes or ())
        return {name: counts[index] for index, name in enumerate(self.class_names)}

    def with_records(self, records: Sequence[Record]) -> Dataset:
        return replace(self, records=tuple(records))


def one_label_each(dataset: Dataset) -> Dataset:
    """A data set to classify as one of images that may have several labels."""
    tagged = [replace(r, target=None, tags=None if r.target is None else (r.target,)) for r in dataset.records]
    return replace(dataset, task="tag", records=tuple(tagged))


def tag_targets(records: Sequence[Record], num_classes: int) -> NDArray[np.float32]:
    """(N, K) float32, 1 where an image has the label.

    Raises:
        ValueError: of an image nothing is known.
    """
    targets = np.zeros((len(records), num_classes), dtype=np.float32)
    for row, record in enumerate(records):
        if record.tags is None:
            raise ValueError(f"{record.id} has no labels")
        targets[row, list(record.tags)] = 1
    return targets


def nfc(name: str) -> str:
    """A class name as it is stored: macOS hands out names decomposed (NFD), other systems composed."""
    return unicodedata.normalize("NFC", name)


def sorted_class_names(names: Iterable[str]) -> list[str]:
    """The one class order of the project: NFC, unique, by code point, the same on every system."""
    return sorted({nfc(name) for name in names})


def class_index(class_names: Sequence[str], name: str) -> int:
    """
    Raises:
        InputError: the name is not among the class names.
    """
    try:
        return class_names.index(nfc(name))
    except ValueError:
        raise InputError(f"class {name!r} is not one of {', '.join(class_names)}.") from None
