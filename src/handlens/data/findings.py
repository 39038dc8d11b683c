"""What an audit found out, in one object with one JSON form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from handlens.data.labels.finding import Finding
from handlens.data.labels.kind import Facts
from handlens.data.record import Dataset, Record, nfc

Groups = tuple[tuple[str, ...], ...]


def contents_fingerprint(digests: Mapping[str, str]) -> str:
    """SHA-256 over (id, SHA-256 of the file) of some images, whatever their order."""
    lines = sorted(json.dumps([nfc(id), digest]) for id, digest in digests.items())
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


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
        class_counts: by split ("all" where none is given) and class name: readable images, or what else the kind of
            labels counts.
        imbalance: of the largest class per one of the smallest, in training; None where a class has none.
        facts: of the labels of readable images, by id.
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
    facts: dict[str, Facts]
    exact_duplicates: Groups
    duplicates: Groups
    across_splits: Groups
    conflicting: Groups
    digests: dict[str, str]
    findings: tuple[Finding, ...]

    def training_counts(self) -> dict[str, int]:
        """`class_counts` of what training may use; empty where only other splits are given."""
        return self.class_counts.get("train") or self.class_counts.get("all") or {}

    def present_classes(self) -> list[str]:
        """Names of the classes that any split has something of."""
        names = self.dataset.class_names
        return [name for name in names if any(counts[name] for counts in self.class_counts.values())]

    def facts_by_part(self) -> dict[str, list[Facts]]:
        """By split, "all" where none is given."""
        splits = self.dataset.splits()
        parts: dict[str, list[Facts]] = {split: [] for split in splits} or {"all": []}
        for record in self.dataset.records:
            if record.id in self.facts and (record.split or not splits):
                parts[record.split or "all"].append(self.facts[record.id])
        return parts

    def usable(self) -> Dataset:
        """The data set without images or labels that cannot be used."""
        left_out = {id for id, _ in self.unreadable} | {id for id, facts in self.facts.items() if not facts.usable}
        kind = self.dataset.kind
        return self.dataset.with_records(
            [
                kind.cleaned(record, self.facts[record.id]) if record.id in self.facts else record
                for record in self.dataset.records
                if record.id not in left_out
            ]
        )

    def fingerprint(self) -> str:
        """SHA-256 over (id, label, split, bytes) of every image: the same data, the same on every system."""
        names, kind = self.dataset.class_names, self.dataset.kind

        def line(record: Record) -> str:
            before, *behind = kind.line(record, self.facts.get(record.id), names)
            return json.dumps([nfc(record.id), before, record.split, self.digests.get(record.id), *behind])

        lines = sorted(map(line, self.dataset.records))
        meaning = kind.meaning(names)
        if meaning is not None:
            lines.insert(0, json.dumps(meaning))
        return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: images are named by id."""
        return {
            "root": str(self.dataset.root),
            "format": self.dataset.format,
            "task": self.dataset.task,
            "notes": list(self.dataset.notes),
            "images": len(self.dataset.records),
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
            **self.dataset.kind.to_dict(self),
            "fingerprint": self.fingerprint(),
            "findings": [
                asdict(finding) | {"files": list(finding.files), "reasons": list(finding.reasons)}
                for finding in self.findings
            ],
        }


def _plain(value: tuple[int, int] | int) -> list[int] | int:
    return list(value) if isinstance(value, tuple) else value
