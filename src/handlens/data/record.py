"""What every format on disk is read into: pictures, what is known about each, and the class names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from handlens.errors import InputError

Split = Literal["train", "validation", "test"]
PICTURE_EXTENSIONS = frozenset(".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif".split())  # noqa: SIM905


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture.

    Attributes:
        path: where the file is, as found on disk: never normalised, so that it can be opened.
        id: its path below the data set's root, with "/", for tables and caches.
        target: index into the data set's class names, or None where nothing is known.
        split: given by the data, or None where a split is still to be made.
        group: pictures of one group (one patient, one burst of shots) never straddle a split.
    """

    path: Path
    id: str
    target: int | None = None
    split: Split | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Pictures in a stable order, and the names of their classes in index order.

    Attributes:
        root: the folder that was opened.
        format: which reader read it, as `--format` names it.
        class_names: NFC, sorted by code point; empty where the pictures have no labels.
        records: sorted by id (code points).
        notes: sentences for people: what was guessed, what was left aside.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if list(self.class_names) != sorted_class_names(self.class_names):
            raise ValueError(f"class names must be unique, NFC and sorted by code point, got {self.class_names}")
        for record in self.records:
            if record.target is not None and not 0 <= record.target < len(self.class_names):
                raise ValueError(f"{record.id}: target {record.target} is outside {len(self.class_names)} classes")

    def part(self, split: Split) -> tuple[Record, ...]:
        """The records of one split, in order."""
        return tuple(record for record in self.records if record.split == split)

    def splits(self) -> tuple[Split, ...]:
        """The splits that the records name, in the order train, validation, test."""
        found = {record.split for record in self.records}
        order: tuple[Split, ...] = ("train", "validation", "test")
        return tuple(split for split in order if split in found)

    def class_counts(self, records: Iterable[Record] | None = None) -> dict[str, int]:
        """Pictures per class name, classes without a picture included."""
        counts = Counter(r.target for r in (self.records if records is None else records) if r.target is not None)
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
