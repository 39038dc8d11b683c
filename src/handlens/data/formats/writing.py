"""What the writers of all formats share: the image to write, copies, lists of splits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlens.data.config import FILE_NAME
from handlens.data.labels.boxes import Box
from handlens.data.record import Record, Split
from handlens.names import as_yaml

SHORT: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Item:
    """An image to write: its record, (height, width) in pixels, and its new file name, whose stem is its own."""

    record: Record
    size: tuple[int, int]
    name: str

    @property
    def part(self) -> str:
        """The folder of its split; "" where it has none."""
        return "" if self.record.split is None else SHORT[self.record.split]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def boxes(self) -> tuple[Box, ...]:
        return self.record.label or ()


def copy(item: Item, folder: Path) -> None:
    """Into the folder: a copy, never a link."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(item.record.path, folder / item.name)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


def write_lists(items: Sequence[Item], folder: Path) -> None:
    """VOC's train.txt, val.txt and test.txt, those that have an image."""
    for split, short in SHORT.items():
        stems = [item.stem for item in items if item.record.split == split]
        if stems:
            write(folder / f"{short}.txt", "".join(f"{stem}\n" for stem in stems))


def write_config(folder: Path, content: dict[str, Any]) -> None:
    """handlens.yaml."""
    write(folder / FILE_NAME, as_yaml(content))


def lost_marks(items: Sequence[Item], *marks: str) -> list[str]:
    """Sentences about marks of boxes that the format does not hold."""
    counts = {mark: sum(bool(getattr(box, mark)) for item in items for box in item.boxes) for mark in marks}
    return [f"{mark} of {count} boxes" for mark, count in counts.items() if count]
