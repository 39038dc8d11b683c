"""What an audit looks at in one image's mask or boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from handlens.data.masks import open_mask, read_mask
from handlens.data.record import IGNORE, Box, MaskCoding, Record
from handlens.errors import InputError

MaskFault = Literal["mask_missing", "mask_unreadable", "mask_size", "mask_values"]
BoxKind = Literal["inverted", "empty", "outside", "duplicate", "tiny"]

# Our choice, all of them.
TOLERANCE = 1.0  # pixels by which a box may leave its image: tools round
TINY = 0.01  # of the image's side
SAME_BOX = 0.95  # intersection over union, of one class: the same object twice


@dataclass(frozen=True, kw_only=True)
class MaskSeen:
    """The facts of one mask.

    Attributes:
        digest: SHA-256 of the file, None where it cannot be read.
        fault: what is wrong with it, and `reason` the sentence about it; None where nothing is.
        pixels: class index -> number of pixels, without the ignored ones.
        ignored: pixels that do not count.
    """

    digest: str | None = None
    fault: MaskFault | None = None
    reason: str = ""
    pixels: dict[int, int] = field(default_factory=dict)
    ignored: int = 0


@dataclass(frozen=True, kw_only=True)
class BoxFault:
    """Something wrong with one box.

    Attributes:
        id: of the image. place: of the box among the image's boxes, from 0; -1 of one that was set aside.
        kind: inverted: right of left or below top is swapped; empty: no width or height; outside: more than a pixel
            of it lies outside the image; duplicate: of an earlier box; tiny: a side below 1 % of the image's.
        share: of the box's area that lies outside the image; 0 for the other kinds.
    """

    id: str
    place: int
    kind: BoxKind
    share: float = 0.0

    @property
    def unusable(self) -> bool:
        """Nothing can be learned from the box, and training leaves it out."""
        return self.kind in ("inverted", "empty", "duplicate") or self.share >= 1


def look_at_mask(path: Path, coding: MaskCoding, *, classes: int, size: tuple[int, int]) -> MaskSeen:
    """
    Args:
        classes: how many there are.
        size: (height, width) of the upright image, pixels.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        fault: MaskFault = "mask_missing" if isinstance(error, FileNotFoundError) else "mask_unreadable"
        return MaskSeen(fault=fault, reason=f"the mask {path} cannot be read: {error.strerror or error}.")
    try:
        mask = read_mask(path, coding, size=size)
    except InputError as error:
        return MaskSeen(digest=digest, fault=_mask_fault(path, size), reason=str(error))
    counts = np.bincount(mask.ravel(), minlength=IGNORE + 1).tolist()
    ignored = counts.pop(IGNORE)
    pixels = {index: count for index, count in enumerate(counts) if count}
    if pixels and max(pixels) >= classes:
        reason = f"the mask {path} holds {pixels[max(pixels)]} pixels of class {max(pixels)}, and there are {classes}."
        return MaskSeen(digest=digest, fault="mask_values", reason=reason)
    return MaskSeen(digest=digest, pixels=pixels, ignored=ignored)


def box_faults(record: Record, *, size: tuple[int, int]) -> Iterator[BoxFault]:
    """
    Args:
        size: (width, height) of the upright image, pixels.
    """
    good: list[Box] = []
    for place, box in [*((-1, box) for box in record.bad_boxes), *enumerate(record.boxes or ())]:
        fault = BoxFault(id=record.id, place=place, kind="empty")
        width, height = box.right - box.left, box.bottom - box.top
        if width < 0 or height < 0:
            yield replace(fault, kind="inverted")
            continue
        if width == 0 or height == 0:
            yield fault
            continue
        beyond = max(-box.left, -box.top, box.right - size[0], box.bottom - size[1])
        if beyond > TOLERANCE:
            seen_width = max(0.0, min(box.right, size[0]) - max(box.left, 0.0))
            seen_height = max(0.0, min(box.bottom, size[1]) - max(box.top, 0.0))
            yield replace(fault, kind="outside", share=1 - seen_width * seen_height / (width * height))
        if any(_same(box, other) for other in good):
            yield replace(fault, kind="duplicate")
        elif width < TINY * size[0] or height < TINY * size[1]:
            yield replace(fault, kind="tiny")
        good.append(box)


def usable_boxes(record: Record, *, size: tuple[int, int]) -> tuple[Box, ...]:
    """The boxes of an image that count, in training and in every metric: cut at its frame, without the unusable ones.

    Args:
        size: (width, height) of the upright image, pixels.
    """
    unusable = {fault.place for fault in box_faults(record, size=size) if fault.unusable}
    kept = [box for place, box in enumerate(record.boxes or ()) if place not in unusable]
    width, height = size
    cut = [
        replace(
            box,
            left=min(max(box.left, 0.0), width),
            top=min(max(box.top, 0.0), height),
            right=min(max(box.right, 0.0), width),
            bottom=min(max(box.bottom, 0.0), height),
        )
        for box in kept
    ]
    return tuple(box for box in cut if box.left < box.right and box.top < box.bottom)


def _mask_fault(path: Path, size: tuple[int, int]) -> MaskFault:
    """Which fault it is that `read_mask` had a sentence about."""
    try:
        image = open_mask(path)
    except InputError:
        return "mask_unreadable"
    return "mask_values" if (image.height, image.width) == size else "mask_size"


def _same(box: Box, other: Box) -> bool:
    if box.label != other.label or box.crowd != other.crowd:
        return False
    width = min(box.right, other.right) - max(box.left, other.left)
    height = min(box.bottom, other.bottom) - max(box.top, other.top)
    if width <= 0 or height <= 0:
        return False
    areas = ((one.right - one.left) * (one.bottom - one.top) for one in (box, other))
    return width * height >= SAME_BOX * (sum(areas) - width * height)
