"""What an audit found out, in one object with one JSON form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from handlens.data.annotations import BoxFault, MaskFault
from handlens.data.record import Dataset, Level, Record, nfc

Groups = tuple[tuple[str, ...], ...]


def contents_fingerprint(digests: Mapping[str, str]) -> str:
    """SHA-256 over (id, SHA-256 of the file) of some images, whatever their order."""
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
        reasons: a sentence for each of `files`, where each has its own.
    """

    level: Level
    code: str
    message: str
    files: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


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
        class_counts: by split ("all" where none is given) and class name: readable images; for segmentation those
            in which the class is seen; for detection boxes.
        imbalance: of the largest class per one of the smallest, in training: images, boxes or pixels; None where a
            class has none.
        exact_duplicates: groups of equal bytes.
        duplicates: groups that show one photograph, equal bytes included.
        across_splits: those of `duplicates` that lie in two given splits.
        conflicting: those of `duplicates` that carry two labels.
        digests: id -> SHA-256 of the file's bytes.
        class_pixels: of usable masks, by split and class name.
        ignored_pixels: of usable masks, by split.
        bad_masks: (id, what is wrong, the sentence about it); their images are left out.
        all_ignored: ids whose masks hold nothing but ignored pixels.
        box_faults: by image and box.
        wrong_sizes: (id, (width, height) that its label states, its true one).
        mask_digests: id -> SHA-256 of the mask's bytes.
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
    class_pixels: dict[str, dict[str, int]] = field(default_factory=dict)
    ignored_pixels: dict[str, int] = field(default_factory=dict)
    bad_masks: tuple[tuple[str, MaskFault, str], ...] = ()
    all_ignored: tuple[str, ...] = ()
    box_faults: tuple[BoxFault, ...] = ()
    wrong_sizes: tuple[tuple[str, tuple[int, int], tuple[int, int]], ...] = ()
    mask_digests: dict[str, str] = field(default_factory=dict)

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)

    def usable(self) -> Dataset:
        """The data set without images that cannot be read or whose mask cannot be used, and without boxes that are
        inverted, empty, wholly outside their image or there twice."""
        left_out = {id for id, _ in self.unreadable} | {id for id, _, _ in self.bad_masks} | set(self.all_ignored)
        unusable = {(fault.id, fault.place) for fault in self.box_faults if fault.unusable}

        def cleaned(record: Record) -> Record:
            if record.boxes is None or not unusable:
                return record
            boxes = tuple(box for place, box in enumerate(record.boxes) if (record.id, place) not in unusable)
            return replace(record, boxes=boxes)

        return self.dataset.with_records([cleaned(r) for r in self.dataset.records if r.id not in left_out])

    def fingerprint(self) -> str:
        """SHA-256 over (id, label, split, bytes) of every image, with its mask's bytes and its boxes where there are
        any: the same data, the same on every system."""
        names = self.dataset.class_names

        def line(record: Record) -> str:
            label: Any = None if record.target is None else names[record.target]
            if record.tags is not None:
                label = [names[tag] for tag in record.tags]
            values: list[Any] = [nfc(record.id), label, record.split, self.digests.get(record.id)]
            if self.dataset.task == "segment":
                values.append(self.mask_digests.get(record.id))
            if self.dataset.task == "detect":
                values.append(None if record.boxes is None else [list(asdict(box).values()) for box in record.boxes])
            return json.dumps(values)

        lines = sorted(map(line, self.dataset.records))
        if self.dataset.task != "classify":  # there the names stand in the lines
            coding = self.dataset.coding
            meaning = [] if coding is None else [sorted(coding.values.items()), sorted(coding.colors.items())]
            lines.insert(0, json.dumps([names, meaning]))
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
            "class_pixels": self.class_pixels,
            "ignored_pixels": self.ignored_pixels,
            "bad_masks": [{"file": id, "fault": fault, "reason": reason} for id, fault, reason in self.bad_masks],
            "all_ignored": list(self.all_ignored),
            "box_faults": [
                {"file": fault.id, "box": fault.place, "fault": fault.kind, "share_outside": fault.share}
                for fault in self.box_faults
            ],
            "wrong_sizes": [{"file": id, "stated": list(s), "true": list(t)} for id, s, t in self.wrong_sizes],
            "fingerprint": self.fingerprint(),
            "findings": [
                asdict(finding) | {"files": list(finding.files), "reasons": list(finding.reasons)}
                for finding in self.findings
            ],
        }


def _plain(value: tuple[int, int] | int) -> list[int] | int:
    return list(value) if isinstance(value, tuple) else value
