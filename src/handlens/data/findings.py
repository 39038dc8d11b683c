"""What an audit says, and what it means for training: errors stop it, warnings are printed and stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from handlens.data.record import Dataset, nfc

Level = Literal["error", "warning", "note"]
Groups = tuple[tuple[str, ...], ...]

# Our choice, all of them.
LARGEST_IMBALANCE = 10.0  # pictures of the largest class per picture of the smallest
FEWEST_TRAINING_PICTURES = 10  # per class
SMALLEST_SIDE = 32  # pixels: the stem and the first blocks of a mobile net already reduce that to one


def contents_fingerprint(digests: Mapping[str, str]) -> str:
    """SHA-256 over (id, SHA-256 of the file) of some pictures, whatever their order."""
    lines = sorted(json.dumps([nfc(id), digest]) for id, digest in digests.items())
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Finding:
    """Something to know about the data.

    Attributes:
        level: an error stops training, a warning is stored and printed, a note is neither good nor bad.
        code: a stable name for programs.
        message: a sentence for people.
        files: the ids it is about; empty where it is about all.
    """

    level: Level
    code: str
    message: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """(width, height) in pixels after EXIF rotation; the order is that of the area."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    most_common: tuple[int, int]
    most_common_count: int


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What every file of a data set turned out to be.

    Attributes:
        unreadable: (id, reason).
        wrong_extension: (id, true format); read by their true format all the same.
        rotated: turned upright by EXIF when they are decoded.
        animated: more than one frame; the first is taken.
        small: shorter side below 32 pixels.
        sizes: None where nothing is readable.
        class_counts: readable pictures by split ("all" where none is given) and class name.
        imbalance: pictures of the largest class per picture of the smallest, in training; None where a class has none.
        exact_duplicates: groups of equal bytes.
        duplicates: groups that show one photograph, equal bytes included.
        across_splits: those of `duplicates` that lie in two given splits.
        conflicting: those of `duplicates` that carry two labels.
        digests: id -> SHA-256 of the file's bytes.
    """

    dataset: Dataset
    unreadable: tuple[tuple[str, str], ...]
    wrong_extension: tuple[tuple[str, str], ...]
    rotated: tuple[str, ...]
    animated: tuple[str, ...]
    small: tuple[str, ...]
    sizes: Sizes | None
    class_counts: dict[str, dict[str, int]]
    imbalance: float | None
    exact_duplicates: Groups
    duplicates: Groups
    across_splits: Groups
    conflicting: Groups
    digests: dict[str, str]
    findings: tuple[Finding, ...]

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)

    def usable(self) -> Dataset:
        """The data set without the pictures that cannot be read."""
        unreadable = {id for id, _ in self.unreadable}
        return self.dataset.with_records([record for record in self.dataset.records if record.id not in unreadable])

    def fingerprint(self) -> str:
        """SHA-256 over (id, label, split, bytes) of every picture: the same data, the same on every system."""
        names = self.dataset.class_names
        lines = sorted(
            json.dumps([nfc(r.id), None if r.target is None else names[r.target], r.split, self.digests.get(r.id)])
            for r in self.dataset.records
        )
        return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: pictures are named by id."""
        return {
            "root": str(self.dataset.root),
            "format": self.dataset.format,
            "notes": list(self.dataset.notes),
            "pictures": len(self.dataset.records),
            "class_names": list(self.dataset.class_names),
            "class_counts": self.class_counts,
            "imbalance": self.imbalance,
            "sizes": None if self.sizes is None else {k: _plain(v) for k, v in asdict(self.sizes).items()},
            "unreadable": [{"file": id, "reason": reason} for id, reason in self.unreadable],
            "wrong_extension": [{"file": id, "format": format} for id, format in self.wrong_extension],
            "rotated": list(self.rotated),
            "animated": list(self.animated),
            "small": list(self.small),
            "exact_duplicates": [list(group) for group in self.exact_duplicates],
            "duplicates": [list(group) for group in self.duplicates],
            "across_splits": [list(group) for group in self.across_splits],
            "conflicting": [list(group) for group in self.conflicting],
            "fingerprint": self.fingerprint(),
            "findings": [asdict(finding) | {"files": list(finding.files)} for finding in self.findings],
        }


def findings_of(audit: Audit) -> Iterator[Finding]:
    """Errors, then warnings, then notes."""
    yield from _errors(audit)
    yield from _warnings(audit)
    yield from _notes(audit)


def training_counts(class_counts: Mapping[str, dict[str, int]]) -> dict[str, int]:
    """Readable pictures per class that training may use; empty where only other splits are given."""
    return class_counts.get("train") or class_counts.get("all") or {}


def _errors(audit: Audit) -> Iterator[Finding]:
    pictures = len(audit.dataset.records)
    if not pictures:
        yield Finding("error", "empty", f"{audit.dataset.root} holds no pictures.")
        return
    if len(audit.unreadable) == pictures:
        yield Finding("error", "nothing_readable", f"none of the {_pictures(pictures)} can be read.")
        return
    if not audit.dataset.class_names:
        return
    present = [name for name in audit.dataset.class_names if any(c[name] for c in audit.class_counts.values())]
    if len(present) == 1:
        yield Finding("error", "one_class", f"all pictures are of one class, {present[0]}; a second is needed.")
    counts = training_counts(audit.class_counts)
    without = [name for name, count in counts.items() if not count]
    if without:
        yield Finding(
            "error",
            "class_without_pictures",
            f"no readable training picture of {', '.join(without)}; add some, or take the class out everywhere.",
        )


def _warnings(audit: Audit) -> Iterator[Finding]:
    if audit.unreadable:
        ids = tuple(id for id, _ in audit.unreadable)
        yield Finding("warning", "unreadable", f"{_pictures(len(ids))} cannot be read and would be left out.", ids)
    if audit.across_splits:
        yield Finding(
            "warning",
            "duplicates_across_splits",
            f"{_photographs(len(audit.across_splits))} in more than one split: test results look better than they are.",
            _members(audit.across_splits),
        )
    if audit.conflicting:
        yield Finding(
            "warning",
            "conflicting_labels",
            f"{_photographs(len(audit.conflicting))} under more than one label; at most one can be right.",
            _members(audit.conflicting),
        )
    counts = training_counts(audit.class_counts)
    if audit.imbalance is not None and audit.imbalance > LARGEST_IMBALANCE:
        largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        yield Finding(
            "warning",
            "imbalance",
            f"{counts[largest]} training pictures of {largest} but {counts[smallest]} of {smallest}; "
            f"class weights or more pictures of {smallest} would help.",
        )
    single = [name for name, count in counts.items() if count == 1]
    if single:
        yield Finding("warning", "single_picture", f"one picture cannot be validated as well: {', '.join(single)}.")
    few = [f"{name} {count}" for name, count in counts.items() if 1 < count < FEWEST_TRAINING_PICTURES]
    if few:
        yield Finding(
            "warning", "few_pictures", f"fewer than {FEWEST_TRAINING_PICTURES} training pictures: {', '.join(few)}."
        )
    if audit.small:
        yield Finding(
            "warning", "small", f"{_pictures(len(audit.small))} below {SMALLEST_SIDE} pixels a side.", audit.small
        )


def _notes(audit: Audit) -> Iterator[Finding]:
    for note in audit.dataset.notes:
        yield Finding("note", "layout", note)
    if audit.dataset.records and not audit.dataset.class_names:
        yield Finding("note", "no_labels", "the pictures have no labels: they can be predicted, not trained on.")
    within = tuple(group for group in audit.duplicates if group not in set(audit.across_splits))
    if within:
        yield Finding(
            "note",
            "duplicates",
            f"{_photographs(len(within))} more than once; copies stay on one side of a split made here.",
            _members(within),
        )
    if audit.wrong_extension:
        ids = tuple(id for id, _ in audit.wrong_extension)
        yield Finding("note", "wrong_extension", f"{_pictures(len(ids))} of another type than the name says.", ids)
    if audit.rotated:
        yield Finding("note", "rotated", f"{_pictures(len(audit.rotated))} turned upright as EXIF says.", audit.rotated)
    if audit.animated:
        yield Finding(
            "note",
            "animated",
            f"{_pictures(len(audit.animated))} with several frames; the first counts.",
            audit.animated,
        )


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _photographs(count: int) -> str:
    return "1 photograph is there" if count == 1 else f"{count} photographs are there"


def _members(groups: Groups) -> tuple[str, ...]:
    return tuple(id for group in groups for id in group)


def _plain(value: tuple[int, int] | int) -> list[int] | int:
    return list(value) if isinstance(value, tuple) else value
