"""What every format on disk is read into: images, what is known about each, and the class names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from handlens.data.labels.classes import ClassLabels
from handlens.data.labels.finding import Level, counted, images
from handlens.data.labels.kind import Kind
from handlens.errors import InputError

Split = Literal["train", "validation", "test"]
IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
)


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something that reading skipped, changed or doubts.

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
        label: of the data set's kind: a class index, several, the file of a mask, boxes; None where nothing is known.
        split: given by the data, or None where a split is still to be made.
        group: images of one group (one patient, one burst of shots) never straddle a split.
    """

    path: Path
    id: str
    label: Any = None
    split: Split | None = None
    group: str | None = None

    @property
    def labeled(self) -> bool:
        return self.label is not None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images in a stable order, and the names of their classes in index order.

    Attributes:
        root: the folder that was opened.
        format: which reader read it, as `--format` names it.
        kind: what a label is.
        class_names: NFC, unique. Sorted by code point, except where the data itself numbers its classes (masks of
            numbers, YOLO, COCO) or, for masks and boxes, handlens.yaml lists them: then in that order. Empty where the
            images have no labels.
        records: sorted by id (code points).
        notes: sentences for people: what was guessed, which files are no part of it.
        remarks: what was skipped, changed or suspicious in the labels.
        source: what the files say beyond all this, of a type of the format's own, where it was opened whole.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    kind: Kind = field(default_factory=ClassLabels)
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    source: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = sorted_class_names(self.class_names)
        if (list(self.class_names) if self.kind.sorted_names else sorted(self.class_names)) != names:
            raise ValueError(f"class names must be unique, NFC and sorted by code point, got {self.class_names}")
        for record in self.records:
            for index in self.kind.indices(record.label) if record.labeled else ():
                if not 0 <= index < len(self.class_names):
                    raise ValueError(f"{record.id}: target {index} is outside {len(self.class_names)} classes")

    @property
    def task(self) -> str:
        """What the labels are for."""
        return self.kind.task

    def summary(self) -> str:
        """What was read, in one line: task, format, what was counted, what was left out.

        For example "detect from boxes-csv: 200 images (train 160, test 40), 3 classes; 5 files left out".
        """
        parts = ", ".join(f"{split} {len(self.part(split)):,}" for split in self.splits())
        found = images(len(self.records)) + (f" ({parts})" if parts else "")
        names = f", {counted(len(self.class_names), self.kind.named)}" if self.class_names else ""
        unlabeled = sum(not record.labeled for record in self.records) if self.class_names else 0
        left = [f"{images(unlabeled)} without label"] if unlabeled else []
        lost = {file for remark in self.remarks if remark.lost for file in remark.files}
        lost -= {record.id for record in self.records}  # of which only a part was left out
        left += [f"{counted(len(lost), 'file')} left out"] if lost else []
        task = self.task if self.class_names else "no labels"
        return "; ".join([f"{task} from {self.format}: {found}{names}", *left])

    def part(self, split: Split) -> tuple[Record, ...]:
        """The records of one split, in order."""
        return tuple(record for record in self.records if record.split == split)

    def splits(self) -> tuple[Split, ...]:
        """The splits that the records name, in the order train, validation, test."""
        found = {record.split for record in self.records}
        order: tuple[Split, ...] = ("train", "validation", "test")
        return tuple(split for split in order if split in found)

    def class_counts(self, records: Iterable[Record] | None = None) -> dict[str, int]:
        """How often each class name stands in the labels; classes without any are included.

        Masks are not read here: every count is 0.
        """
        chosen = self.records if records is None else records
        counts = Counter(index for record in chosen if record.labeled for index in self.kind.indices(record.label))
        return {name: counts[index] for index, name in enumerate(self.class_names)}

    def with_records(self, records: Sequence[Record]) -> Dataset:
        return replace(self, records=tuple(records))


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
