"""From labels as the data spells or numbers them to class names, by NFC and what handlens.yaml says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from handlens.data.config import DataConfig
from handlens.data.record import Remark, nfc, sorted_class_names
from handlens.errors import InputError, nearest


def numbered_classes(
    labels: Mapping[int, str], config: DataConfig
) -> tuple[tuple[str, ...], dict[int, int], list[Remark]]:
    """For data that numbers its classes: names in that order, number -> index into them, and remarks.

    Two numbers of one name become one class.

    Raises:
        InputError: a name that `class_names` does not allow.
    """
    names: dict[str, list[int]] = {}
    for number in sorted(labels):
        names.setdefault(class_name(labels[number], config), []).append(number)
    merged = [
        Remark(
            code="classes_merged",
            message=f"class {name} has {len(numbers)} numbers ({', '.join(map(str, numbers))}) and was merged",
            level="note",
        )
        for name, numbers in names.items()
        if len(numbers) > 1
    ]
    return tuple(names), {number: i for i, numbers in enumerate(names.values()) for number in numbers}, merged


def named_classes(labels: Mapping[str, str], config: DataConfig) -> tuple[tuple[str, ...], dict[str, int], list[str]]:
    """For boxes with names: class names (the list in handlens.yaml, in its order, or sorted), label -> index, notes.

    Args:
        labels: as spelled in the data, each with where it stands, as the beginning of a sentence about it.

    Raises:
        InputError: a label that `class_names` does not allow; the list names a class twice.
    """
    name_of = {label: class_name(label, config, where=where) for label, where in labels.items()}
    names = listed_names(config) or tuple(sorted_class_names(name_of.values()))
    return names, {label: names.index(name) for label, name in name_of.items()}, spelled_twice(labels)


def listed_names(config: DataConfig) -> tuple[str, ...]:
    """The list `class_names` in its order; () where there is none.

    Raises:
        InputError: a name stands in it twice.
    """
    names = tuple(map(nfc, config.class_names)) if isinstance(config.class_names, list) else ()
    if "" in names:
        raise InputError("class_names in handlens.yaml has an empty name; every class needs one.")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"class_names in handlens.yaml lists {twice[0]!r} twice; list each class once.")
    return names


def class_name(label: str, config: DataConfig, *, where: str = "") -> str:
    """The name of the class that a label in the data stands for, NFC.

    Raises:
        InputError: `class_names` does not allow it.
    """
    name = nfc(label)
    if isinstance(config.class_names, dict):
        name = nfc({nfc(old): new for old, new in config.class_names.items()}.get(name, name))
        if not name:
            raise InputError(f"class_names in handlens.yaml gives {label!r} an empty name; every class needs one.")
        return name
    if isinstance(config.class_names, list):
        allowed = tuple(sorted_class_names(config.class_names))
        if name not in allowed:
            raise InputError(
                f"{where}class {name!r} is not among class_names in handlens.yaml; {nearest(name, allowed)}."
            )
    return name


def spelled_twice(spellings: Iterable[str]) -> list[str]:
    """macOS decomposes names (NFD): a folder copied from there beside one made elsewhere is the same class."""
    composed: dict[str, int] = {}
    for spelling in spellings:
        composed[nfc(spelling)] = composed.get(nfc(spelling), 0) + 1
    merged = sorted(name for name, count in composed.items() if count > 1)
    return [f"class {name} is spelled in two Unicode forms (NFC and NFD) and was merged" for name in merged]
