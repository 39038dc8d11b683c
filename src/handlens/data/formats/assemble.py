"""From images and what was found about each to a Dataset: one class order, one kind of id, for every format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handlens.data.config import DataConfig
from handlens.data.formats.class_names import class_name, spelled_twice
from handlens.data.labels.boxes import Box, BoxLabels, has_area
from handlens.data.labels.mask_files import MaskCoding
from handlens.data.labels.masks import MaskLabels
from handlens.data.labels.tags import TagLabels
from handlens.data.labels.values import ValueLabels
from handlens.data.listing import Tree
from handlens.data.record import Dataset, Record, Remark, Split, nfc, sorted_class_names
from handlens.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Found:
    """An image and its label as the data spells it: a name or several, the file of a mask, boxes; or None."""

    path: Path
    label: Any = None
    split: Split | None = None
    group: str | None = None


def assemble(
    root: Path, *, format: str, found: Iterable[Found], config: DataConfig, notes: Sequence[str | Remark] = ()
) -> Dataset:
    """
    Raises:
        InputError: no image at all; a label that `class_names` does not allow.
    """
    said, remarks = _told_apart(notes)
    items, said = _sorted(root, found=found, config=config, notes=said)
    spellings = {item.label for item, _ in items if item.label is not None}
    names = {label: class_name(label, config) for label in sorted(spellings)}
    class_names = sorted_class_names(config.class_names if isinstance(config.class_names, list) else names.values())
    index = {name: position for position, name in enumerate(class_names)}
    said += spelled_twice(spellings)
    records = [
        replace(record, label=None if item.label is None else index[names[item.label]]) for item, record in items
    ]
    said += _untrained(records, class_names)
    return Dataset(
        root=root,
        format=format,
        class_names=tuple(class_names),
        records=tuple(records),
        notes=tuple(said),
        remarks=remarks,
    )


def assemble_tags(
    root: Path, *, format: str, found: Iterable[Found], config: DataConfig, notes: Sequence[str | Remark] = ()
) -> Dataset:
    """For images that may have several labels.

    Raises:
        InputError: no image at all; not one label; a label that `class_names` does not allow.
    """
    said, remarks = _told_apart(notes)
    items, said = _sorted(root, found=found, config=config, notes=said)
    spellings = {label for item, _ in items for label in item.label or ()}
    if not spellings:
        raise InputError(f"none of the {len(items)} images in {root} has a label; at least one is needed.")
    names = {label: class_name(label, config) for label in sorted(spellings)}
    class_names = sorted_class_names(config.class_names if isinstance(config.class_names, list) else names.values())
    index = {name: position for position, name in enumerate(class_names)}
    records = [
        record
        if item.label is None
        else replace(record, label=tuple(sorted({index[names[label]] for label in item.label})))
        for item, record in items
    ]
    return Dataset(
        root=root,
        format=format,
        class_names=tuple(class_names),
        records=tuple(records),
        kind=TagLabels(),
        notes=(*said, *spelled_twice(spellings)),
        remarks=remarks,
    )


def assemble_values(
    root: Path,
    *,
    format: str,
    names: Sequence[str],
    found: Iterable[Found],
    config: DataConfig,
    notes: Sequence[str | Remark] = (),
) -> Dataset:
    """For images with numbers.

    Args:
        names: of the numbers.

    Raises:
        InputError: no image at all; not one number.
    """
    said, remarks = _told_apart(notes)
    items, said = _sorted(root, found=found, config=config, notes=said)
    records = tuple(replace(record, label=item.label) for item, record in items)
    if not any(record.labeled for record in records):
        raise InputError(f"none of the {len(records)} images in {root} has a number.")
    return Dataset(
        root=root,
        format=format,
        class_names=tuple(map(nfc, names)),
        records=records,
        kind=ValueLabels(),
        notes=tuple(said),
        remarks=remarks,
    )


def assemble_masks(
    root: Path,
    *,
    format: str,
    class_names: Sequence[str],
    coding: MaskCoding,
    found: Iterable[Found],
    config: DataConfig,
    notes: Sequence[str | Remark] = (),
) -> Dataset:
    """
    Raises:
        InputError: no image at all.
    """
    said, remarks = _told_apart(notes)
    items, said = _sorted(root, found=found, config=config, notes=said)
    return Dataset(
        root=root,
        format=format,
        class_names=tuple(class_names),
        records=tuple(replace(record, label=item.label) for item, record in items),
        kind=MaskLabels(coding),
        notes=tuple(said),
        remarks=remarks,
    )


def assemble_boxes(
    root: Path,
    *,
    format: str,
    class_names: Sequence[str],
    found: Iterable[Found],
    config: DataConfig,
    stated_sizes: Mapping[Path, tuple[int, int]] | None = None,
    notes: Sequence[str | Remark] = (),
) -> Dataset:
    """Boxes without area are set aside, and the audit names them: their overlap with anything is 0 / 0.

    Args:
        stated_sizes: (width, height) of images, where their labels say it.

    Raises:
        InputError: no image at all; no box in any.
    """
    said, remarks = _told_apart(notes)
    items, said = _sorted(root, found=found, config=config, notes=said)
    tree = Tree(root)
    records: list[Record] = []
    without_area: dict[str, tuple[Box, ...]] = {}
    for item, record in items:
        if item.label is not None:
            record = replace(record, label=tuple(box for box in item.label if has_area(box)))
            if len(record.label) < len(item.label):
                without_area[record.id] = tuple(box for box in item.label if not has_area(box))
        records.append(record)
    if not any(record.label for record in records):
        inverted = sum(map(len, without_area.values()))
        why = f" ({inverted} boxes are inverted or have no area)" if inverted else ""
        raise InputError(f"none of the {len(records)} images in {root} has a box{why}; at least one is needed.")
    said += _untrained_boxes(records, class_names)
    return Dataset(
        root=root,
        format=format,
        class_names=tuple(class_names),
        records=tuple(records),
        kind=BoxLabels(
            without_area=without_area,
            stated_sizes={tree.id(image): size for image, size in (stated_sizes or {}).items()},
        ),
        notes=tuple(said),
        remarks=remarks,
    )


def corners(label: int, left: float, top: float, right: float, bottom: float) -> Box:
    """A box with coordinates rounded to 1/10,000 pixel: the same box written as corners, as a size or as fractions
    of the image is the same Box."""
    return Box(label=label, left=round(left, 4), top=round(top, 4), right=round(right, 4), bottom=round(bottom, 4))


def named(names: Sequence[str], *, most: int = 5) -> str:
    """For a note: "7 (a, b, c, d, e, ...)"."""
    return f"{len(names)} ({', '.join(names[:most])}{', ...' if len(names) > most else ''})"


def _told_apart(notes: Sequence[str | Remark]) -> tuple[list[str], tuple[Remark, ...]]:
    said = [note for note in notes if isinstance(note, str)]
    return said, tuple(note for note in notes if isinstance(note, Remark))


def _sorted(
    root: Path, *, found: Iterable[Found], config: DataConfig, notes: Sequence[str]
) -> tuple[list[tuple[Found, Record]], list[str]]:
    """The records in order of their ids, without labels, and the notes."""
    tree = Tree(root)
    pattern = re.compile(config.groups) if config.groups else None
    said = list(notes)
    items = sorted(((tree.id(item.path), item) for item in found), key=lambda pair: pair[0])
    if not items:
        left = "".join(f" ({note})" for note in notes)
        raise InputError(f"{root} contains no images{left}; give a folder with JPEG, PNG or similar files.")
    records = []
    ungrouped = 0
    for id, item in items:
        group = item.group
        if group is None and pattern is not None:
            match = pattern.search(id)
            group = match["group"] if match else None
            ungrouped += match is None
        record = Record(
            path=item.path,
            id=id,
            split=item.split,
            group=group,
        )
        records.append((item, record))
    if ungrouped:
        said.append(f"images whose path does not match the groups pattern, each its own group: {ungrouped}")
    return records, said


def _untrained(records: Sequence[Record], class_names: Sequence[str]) -> list[str]:
    trained = {record.label for record in records if record.split in (None, "train")}
    if not trained:  # a folder that is for testing only
        return []
    missing = [name for index, name in enumerate(class_names) if index not in trained]
    return [f"class {name} has no training image" for name in missing]


def _untrained_boxes(records: Sequence[Record], class_names: Sequence[str]) -> list[str]:
    training = [record for record in records if record.split in (None, "train")]
    if not training:
        return []
    trained = {box.label for record in training for box in record.label or ()}
    missing = [name for index, name in enumerate(class_names) if index not in trained]
    return [f"classes without a box to train on: {named(missing)}"] if missing else []
