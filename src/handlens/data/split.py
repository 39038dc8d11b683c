"""Train, validation and test, and folds: stratified, seeded, with what belongs together on one side.

A unit is a set of images that must not straddle a split: one group of the data, one photograph and its copies,
or whatever follows when the two overlap. Units are taken in an order that depends on the seed and on their ids
alone, so that neither the order of the records nor the system matters.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from handlens.data.duplicates import Union
from handlens.data.labels.kind import Kind
from handlens.data.record import Dataset, Record, Split, nfc
from handlens.errors import InputError

Unit = list[Record]
Classes = Counter[int | None]  # images per class
Strata = dict[str, int | None]  # id -> the class that it is stratified by


def split_dataset(
    dataset: Dataset,
    *,
    validation: float | int = 0.15,
    test: float | int = 0.15,
    seed: int = 0,
    together: Sequence[Collection[str]] = (),
) -> Dataset:
    """Give every image a split; what the data already says is kept.

    An image with boxes or several labels counts as one of the rarest class in it. Images with masks are not
    stratified.

    No split given: train, validation and test are made. Only train given: the other two are taken from it. Train and
    test given: validation is taken from train. Train and validation given: kept, and there is no test.

    Args:
        validation, test: a share (float) of each class, or a number of images in total (int). With a share, a class
            of two images has one for validation and a class of three one for test too; one image is trained on.
        seed: another seed, another split.
        together: sets of ids, such as duplicates, that must not straddle a split made here. Those that straddle
            a split that was given are left as they are: the audit warns of them.

    Raises:
        InputError: images without a label; some with and some without a split; nothing to train on; sizes out of
            range.
    """
    _check_size("validation", validation)
    _check_size("test", test)
    unlabeled = [record.id for record in dataset.records if not record.labeled]
    if unlabeled:
        raise InputError(
            f"{len(unlabeled)} images have no label, for example {unlabeled[0]!r}; training needs one for every image."
        )
    given = dataset.splits()
    if given and any(record.split is None for record in dataset.records):
        raise InputError("some images have a split and some have none; give a split to all or none.")
    if given and "train" not in given:
        raise InputError(f"the data has {' and '.join(given)} images but none for training; add a train folder.")
    if "validation" in given:
        note = () if "test" in given else ("there is no test split; the given validation split is used",)
        return replace(dataset, notes=(*dataset.notes, *note))

    parts: dict[Split, float | int] = {"validation": validation}
    if "test" not in given:
        parts["test"] = test
        if isinstance(validation, float) and isinstance(test, float) and validation + test >= 1:
            raise InputError(
                f"validation {validation} and test {test} leave no training images; use smaller fractions."
            )
    pool = [record for record in dataset.records if record.split in (None, "train")]
    assigned = _assign(kept_together(pool, together, seed=seed), parts, _strata(pool, dataset.kind))
    records = [replace(record, split=assigned.get(record.id, record.split)) for record in dataset.records]
    taken = " and ".join(f"{sum(split == part for split in assigned.values())} for {part}" for part in parts)
    source = "of the training images" if given else f"of {len(pool)} images"
    return replace(dataset, records=tuple(records), notes=(*dataset.notes, f"split {source} with seed {seed}: {taken}"))


def folds(
    records: Sequence[Record], kind: Kind, *, count: int = 5, seed: int = 0, together: Sequence[Collection[str]] = ()
) -> NDArray[np.int64]:
    """The fold of each record, (N,) in [0, count): stratified, groups and `together` sets whole.

    A class with fewer units than folds is absent from some.

    Raises:
        InputError: fewer than two folds, or more folds than images.
    """
    if not 2 <= count <= len(records):
        raise InputError(f"{count} folds are not possible with {len(records)} images; use 2 to {len(records)}.")
    of_class: list[Classes] = [Counter() for _ in range(count)]
    sizes = [0] * count
    fold_of: dict[str, int] = {}
    strata = _strata(records, kind)
    for unit in sorted(
        kept_together(records, together, seed=seed), key=len, reverse=True
    ):  # large units fit worst: first
        classes = Counter(strata[record.id] for record in unit)
        fold = min(range(count), key=lambda k: (sum(of_class[k][c] * n for c, n in classes.items()), sizes[k], k))
        of_class[fold].update(classes)
        sizes[fold] += len(unit)
        fold_of |= {record.id: fold for record in unit}
    return np.array([fold_of[record.id] for record in records], dtype=np.int64)


def _check_size(name: str, size: float | int) -> None:
    if size < 0 or (isinstance(size, float) and size >= 1):
        raise InputError(f"{name} = {size} is out of range; use a fraction in [0, 1) or a number of images.")


def kept_together(records: Sequence[Record], together: Sequence[Collection[str]], *, seed: int = 0) -> list[Unit]:
    """Connected sets of records, of one group or of `together`, in the seed's order."""
    by_id = {record.id: record for record in records}
    if len(by_id) != len(records):
        raise ValueError("record ids must be unique")
    union = Union(by_id)
    first_of_group: dict[str, str] = {}
    for record in records:
        if record.group is not None:
            union.join(first_of_group.setdefault(record.group, record.id), record.id)
    for ids in together:
        known = sorted(id for id in ids if id in by_id)
        for id in known[1:]:
            union.join(known[0], id)
    units = [[by_id[id] for id in group] for group in union.groups(at_least=1)]
    return sorted(units, key=lambda unit: min(_draw(record.id, seed) for record in unit))


def _draw(id: str, seed: int) -> bytes:
    """A random number that belongs to an id. NFC: macOS spells the same path otherwise."""
    return hashlib.blake2b(f"{seed}/{nfc(id)}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _strata(records: Sequence[Record], kind: Kind) -> Strata:
    """The class in the image that the fewest images have; None where the label names no class."""
    classes = {record.id: set(kind.indices(record.label)) if record.labeled else set() for record in records}
    holding = Counter(label for labels in classes.values() for label in labels)
    return {
        id: min(labels, key=lambda label: (holding[label], label)) if labels else None for id, labels in classes.items()
    }


def _assign(units: Sequence[Unit], parts: dict[Split, float | int], strata: Strata) -> dict[str, Split]:
    """id -> split. Each part takes units until each class has its quota; train keeps the rest, with all classes."""
    contents = [Counter(strata[record.id] for record in unit) for unit in units]  # images per class
    available: Classes = sum(contents, Counter())
    left = Counter(available)  # what is still in train
    part_of: dict[int, Split] = {}
    for part, size in parts.items():
        missing = _quota(part, size, available=available, left=left)
        absent = {c for c, n in missing.items() if n > 0}
        for number, classes in enumerate(contents):
            if number not in part_of and _spared(classes, left) and _brings_nearer(classes, missing):
                part_of[number] = part
                missing.subtract(classes)
                left.subtract(classes)
                absent -= set(classes)
        for c in sorted(absent, key=str):  # all its units are far larger than its quota: the smallest
            holding = [n for n, classes in enumerate(contents) if n not in part_of and c in classes]
            spared = [n for n in holding if _spared(contents[n], left)]
            if spared:
                number = min(spared, key=lambda n: len(units[n]))
                part_of[number] = part
                left.subtract(contents[number])
    return {record.id: part_of.get(number, "train") for number, unit in enumerate(units) for record in unit}


def _spared(classes: Classes, left: Classes) -> bool:
    """Whether train keeps an image of each class without this unit."""
    return all(n < left[c] for c, n in classes.items())


def _brings_nearer(classes: Classes, missing: Classes) -> bool:
    """Whether the unit brings its classes nearer to their quotas, counted in images."""
    return sum(abs(missing[c] - n) - abs(missing[c]) for c, n in classes.items()) < 0


def _quota(part: Split, size: float | int, *, available: Classes, left: Classes) -> Classes:
    """Images per class; never the last one, which is trained on."""
    if isinstance(size, float):
        at_least = 1 if size > 0 else 0
        return Counter({c: min(max(int(size * n + 0.5), at_least), left[c] - 1) for c, n in available.items()})
    most = sum(n - 1 for n in left.values())
    if size > most:
        raise InputError(f"{part} = {size} images are too many; at most {most} are available.")
    exact = {c: size * (n - 1) / max(most, 1) for c, n in left.items()}
    quota = Counter({c: int(share) for c, share in exact.items()})
    largest_remainder = sorted(exact, key=lambda c: (quota[c] - exact[c], str(c)))
    quota.update(largest_remainder[: size - quota.total()])
    return quota
