"""A class per pixel: a label is the file of a mask, as large as its image."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.finding import Finding, counted, images
from handlens.data.labels.kind import Facts, Kind, few, one_class, without_labels
from handlens.data.labels.mask_files import MaskCoding, open_mask, read_mask
from handlens.errors import InputError
from handlens.palette import IGNORE
from handlens.reading.files import MissingFileError, UnreadableFileError, check_file, sha256_of

if TYPE_CHECKING:
    from handlens.data.findings import Audit
    from handlens.data.record import Record

MaskFault = Literal["mask_missing", "mask_unreadable", "mask_size", "mask_values"]
SENTENCES: dict[MaskFault, str] = {
    "mask_missing": "missing",
    "mask_unreadable": "that cannot be read",
    "mask_size": "of a different size than the image",
    "mask_values": "with values that belong to no class",
}
# Masks of copies of one image in two sizes are alike where so many cells of a coarse grid are, and where no class has a
# share of the pixels that differs by more. Our choice.
GRID = 16
SAME_CELLS, SAME_SHARE = 0.95, 0.02


@dataclass(frozen=True, kw_only=True)
class MaskSeen:
    """The facts of one mask.

    Attributes:
        digest: SHA-256 of the file, None where it cannot be read.
        fault: what is wrong with it, and `reason` the sentence about it; None where nothing is.
        pixels: class index -> number of pixels, without the ignored ones.
        ignored: pixels that do not count.
        pixels_digest: SHA-256 of the classes of its pixels, however the file is written.
        size: (height, width).
        coarse: the class in the middle of each cell, row by row; nothing of a mask that cannot be used.
    """

    digest: str | None = None
    fault: MaskFault | None = None
    reason: str = ""
    pixels: dict[int, int] = field(default_factory=dict)
    ignored: int = 0
    pixels_digest: str = ""
    size: tuple[int, int] = (0, 0)
    coarse: bytes = b""


@dataclass(frozen=True)
class MaskLabels(Kind):
    """
    Attributes:
        coding: how the pixels of the files become class indices.
    """

    coding: MaskCoding

    task = "segment"
    noun = "masks"
    sorted_names = False

    def indices(self, label: Path) -> tuple[int, ...]:
        return ()

    def renumbered(self, index: Mapping[int, int]) -> MaskLabels:
        return MaskLabels(self.coding.renumbered(index))

    def relabeled(self, label: Path, index: Mapping[int, int]) -> Path:
        return label

    def read(self, label: Path, *, size: tuple[int, int]) -> NDArray[np.uint8]:
        """As `mask_files.read_mask`."""
        return read_mask(label, self.coding, size=size)

    def look(self, record: Record, *, classes: int, size: tuple[int, int]) -> Facts:
        seen = look_at_mask(record.label, self.coding, classes=classes, size=size)
        return Facts(
            counts=dict.fromkeys(seen.pixels, 1),
            amounts=seen.pixels,
            usable=seen.fault is None and bool(seen.pixels),
            details=seen,
        )

    def alike(self, one: tuple[Record, Facts], other: tuple[Record, Facts]) -> bool:
        seen: tuple[MaskSeen, MaskSeen] = (one[1].details, other[1].details)
        if not (seen[0].coarse and seen[1].coarse):
            return True  # a mask that cannot be used has a finding of its own
        if seen[0].size == seen[1].size:
            return seen[0].pixels_digest == seen[1].pixels_digest
        sums = [sum(mask.pixels.values()) + mask.ignored for mask in seen]
        shares = [
            {index: count / total for index, count in mask.pixels.items()}
            for mask, total in zip(seen, sums, strict=True)
        ]
        apart = max(abs(shares[0].get(i, 0) - shares[1].get(i, 0)) for i in {*shares[0], *shares[1], 0})
        same = sum(a == b for a, b in zip(seen[0].coarse, seen[1].coarse, strict=True))
        return apart <= SAME_SHARE and same >= SAME_CELLS * GRID**2

    def line(self, record: Record, facts: Facts | None, names: Sequence[str]) -> tuple[Any, ...]:
        return None, None if facts is None else facts.details.digest

    def meaning(self, names: Sequence[str]) -> list[Any]:
        return [list(names), [sorted(self.coding.values.items()), sorted(self.coding.colors.items())]]

    def to_dict(self, audit: Audit) -> dict[str, Any]:
        return {
            "class_pixels": self.pixels(audit),
            "ignored_pixels": {
                part: sum(facts.details.ignored for facts in found) for part, found in audit.facts_by_part().items()
            },
            "bad_masks": [
                {"file": id, "fault": seen.fault, "reason": seen.reason} for id, seen in self.faulty(audit).items()
            ],
            "all_ignored": list(self.all_ignored(audit)),
        }

    def pixels(self, audit: Audit) -> dict[str, dict[str, int]]:
        """By split ("all" where none is given) and class name, of usable masks."""
        names = audit.dataset.class_names
        result = {}
        for part, found in audit.facts_by_part().items():
            total: Counter[int] = sum((Counter(facts.amounts) for facts in found), Counter())
            result[part] = {name: total.get(index, 0) for index, name in enumerate(names)}
        return result

    def faulty(self, audit: Audit) -> dict[str, MaskSeen]:
        """By id; their images are left out."""
        return {id: facts.details for id, facts in audit.facts.items() if facts.details.fault is not None}

    def all_ignored(self, audit: Audit) -> tuple[str, ...]:
        """Ids whose masks hold nothing but ignored pixels."""
        return tuple(id for id, f in audit.facts.items() if f.details.fault is None and not f.details.pixels)

    def columns(self, audit: Audit, split: str | None) -> list[tuple[str, dict[str, str]]]:
        part = f"{split} " if split else ""
        counts = audit.class_counts.get(split or "all", {})
        pixels = self.pixels(audit).get(split or "all", {})
        total = max(1, sum(pixels.values()))
        shares = {name: f"{100 * count / total:.2f}" for name, count in pixels.items()}
        return [(f"{part}images", {name: str(count) for name, count in counts.items()}), (f"{part}% of pixels", shares)]

    def errors(self, audit: Audit) -> Iterator[Finding]:
        if not audit.present_classes():
            faulty = list(self.faulty(audit).values())
            reason = faulty[0].reason if faulty else "there are no masks, or all their pixels are ignored."
            yield Finding("error", "no_usable_mask", f"no usable mask: {reason}")
        yield from one_class(audit, where="labeled pixels are")

    def warnings(self, audit: Audit) -> Iterator[Finding]:
        if ids := tuple(record.id for record in audit.dataset.records if record.label is None):
            yield Finding("warning", "without_label", f"{images(len(ids))} without a mask.", ids)
        for fault, sentence in SENTENCES.items():
            bad = {id: seen.reason for id, seen in self.faulty(audit).items() if seen.fault == fault}
            if bad:
                ids, reasons = tuple(bad), tuple(bad.values())
                yield Finding(
                    "warning",
                    fault,
                    f"{counted(len(bad), 'mask')} {sentence}; the images will be left out. The first: {reasons[0]}",
                    ids,
                    reasons,
                )
        if ignored := self.all_ignored(audit):
            sentence = f"{images(len(ignored))} with only ignored pixels; they will be left out."
            yield Finding("warning", "all_ignored", sentence, ignored)
        yield from without_labels(audit, what="pixel")
        yield from few(audit, unit=self.unit, code="few_images")


def look_at_mask(path: Path, coding: MaskCoding, *, classes: int, size: tuple[int, int]) -> MaskSeen:
    """
    Args:
        classes: how many there are.
        size: (height, width) of the upright image, pixels.
    """
    try:
        digest = sha256_of(check_file(path, "image"))
    except UnreadableFileError as error:
        fault: MaskFault = "mask_missing" if isinstance(error, MissingFileError) else "mask_unreadable"
        return MaskSeen(fault=fault, reason=f"the mask {error}")
    try:
        mask = read_mask(path, coding, size=size)
    except InputError as error:
        return MaskSeen(digest=digest, fault=_fault(path, size), reason=str(error))
    counts = np.bincount(mask.ravel(), minlength=IGNORE + 1).tolist()
    ignored = counts.pop(IGNORE)
    pixels = {index: count for index, count in enumerate(counts) if count}
    if pixels and max(pixels) >= classes:
        reason = (
            f"the mask {path} has {pixels[max(pixels)]} pixels of class {max(pixels)}, but there are {classes} classes."
        )
        return MaskSeen(digest=digest, fault="mask_values", reason=reason)
    rows, columns = (((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in mask.shape)
    return MaskSeen(
        digest=digest,
        pixels=pixels,
        ignored=ignored,
        pixels_digest=hashlib.sha256(mask.tobytes()).hexdigest(),
        size=size,
        coarse=mask[np.ix_(rows, columns)].tobytes(),
    )


def _fault(path: Path, size: tuple[int, int]) -> MaskFault:
    """Which fault it is that `read_mask` had a sentence about."""
    try:
        image = open_mask(path)
    except InputError:
        return "mask_unreadable"
    return "mask_values" if (image.height, image.width) == size else "mask_size"
