"""From (picture, label) pairs to a Dataset: one class order, one kind of id, for every format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from handlens.data.config import DataConfig, nearest
from handlens.data.listing import Tree
from handlens.data.record import Dataset, Record, Split, nfc, sorted_class_names
from handlens.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Found:
    """A picture with its label as it is spelled in the data; None where the format has no labels."""

    path: Path
    label: str | None = None
    split: Split | None = None
    group: str | None = None


def assemble(
    root: Path, *, format: str, found: Iterable[Found], config: DataConfig, notes: Sequence[str] = ()
) -> Dataset:
    """
    Raises:
        InputError: no picture at all; a label that `class_names` does not allow.
    """
    tree = Tree(root)
    pattern = re.compile(config.groups) if config.groups else None
    said = list(notes)
    items = sorted(((tree.id(item.path), item) for item in found), key=lambda pair: pair[0])
    if not items:
        left = "".join(f" ({note})" for note in notes)
        raise InputError(f"{root} holds no pictures{left}; give a folder with JPEG, PNG or similar files.")

    spellings = {item.label for _, item in items if item.label is not None}
    names = {label: _class_name(label, config) for label in sorted(spellings)}
    class_names = sorted_class_names(config.class_names if isinstance(config.class_names, list) else names.values())
    index = {name: position for position, name in enumerate(class_names)}
    said += _spelled_twice(spellings)

    records = []
    ungrouped = 0
    for id, item in items:
        group = item.group
        if group is None and pattern is not None:
            match = pattern.search(id)
            group = match["group"] if match else None
            ungrouped += match is None
        target = None if item.label is None else index[names[item.label]]
        records.append(Record(path=item.path, id=id, target=target, split=item.split, group=group))
    if ungrouped:
        said.append(f"pictures whose path does not fit the groups pattern, each on its own: {ungrouped}")
    said += _untrained(records, class_names)
    return Dataset(root=root, format=format, class_names=tuple(class_names), records=tuple(records), notes=tuple(said))


def _class_name(label: str, config: DataConfig) -> str:
    name = nfc(label)
    if isinstance(config.class_names, dict):
        return nfc({nfc(old): new for old, new in config.class_names.items()}.get(name, name))
    if isinstance(config.class_names, list):
        allowed = tuple(sorted_class_names(config.class_names))
        if name not in allowed:
            raise InputError(f"class {name!r} is not among class_names in handlens.yaml; {nearest(name, allowed)}.")
    return name


def _spelled_twice(spellings: Iterable[str]) -> list[str]:
    """macOS decomposes names (NFD): a folder copied from there beside one made elsewhere is the same class."""
    composed: dict[str, int] = {}
    for spelling in spellings:
        composed[nfc(spelling)] = composed.get(nfc(spelling), 0) + 1
    merged = sorted(name for name, count in composed.items() if count > 1)
    return [f"class {name} is spelled in two Unicode forms (NFC and NFD) and was merged" for name in merged]


def _untrained(records: Sequence[Record], class_names: Sequence[str]) -> list[str]:
    trained = {record.target for record in records if record.split in (None, "train")}
    if not trained:  # a folder that is for testing only
        return []
    missing = [name for index, name in enumerate(class_names) if index not in trained]
    return [f"class {name} has no training picture" for name in missing]
