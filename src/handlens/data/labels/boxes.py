"""Objects and their boxes: a label is the tuple of an image's boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from handlens.data.labels.finding import Finding, counted, images
from handlens.data.labels.kind import Facts, Kind, few, imbalance, without_labels
from handlens.data.labels.overlap import box_iou

if TYPE_CHECKING:
    from handlens.data.findings import Audit
    from handlens.data.record import Record

BoxKind = Literal["inverted", "empty", "outside", "duplicate", "tiny"]

# Our choice, all of them.
TOLERANCE = 1.0  # pixels by which a box may leave its image: tools round
TINY = 0.01  # of the image's side
SAME_BOX = 0.95  # intersection over union, of one class: the same object twice
COMPARED = 2000  # boxes of an image that are compared each with each: 32 MB
SAME_PLACE = 1.5  # pixels of the smaller of two copies of an image, by which their boxes may lie apart

# What is wrong, and what training does about it.
SENTENCES: dict[BoxKind, tuple[str, str]] = {
    "inverted": ("with left and right or top and bottom swapped", "left out, so their objects count as background"),
    "empty": ("without width or height", "left out"),
    "outside": ("outside the image", "clipped to the image"),
    "duplicate": ("duplicated", "the copies are left out"),
    "tiny": ("smaller than 1 % of the image's side", "a larger input size or finer anchors may be needed"),
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """One object in an image.

    Attributes:
        label: index into the data set's class names.
        left, top, right, bottom: pixels of the upright image, measured at edges: the whole image is
            0, 0, width, height, and a box around its first pixel 0, 0, 1, 1.
        area: square pixels of the object itself, where the data says so (COCO sorts by it); None: the box's.
        crowd: a box around many objects, which the evaluator neither expects nor punishes.
        difficult: VOC's mark for objects that the evaluator leaves out.
    """

    label: int
    left: float
    top: float
    right: float
    bottom: float
    area: float | None = None
    crowd: bool = False
    difficult: bool = False


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


@dataclass(frozen=True, kw_only=True)
class BoxesSeen:
    """The facts of an image's boxes.

    Attributes:
        size: (width, height) of the image, pixels.
        wrong_size: that the label states, where it is another.
    """

    faults: tuple[BoxFault, ...]
    size: tuple[int, int]
    wrong_size: tuple[int, int] | None


@dataclass(frozen=True)
class BoxLabels(Kind):
    """What the files say beside the boxes is kept for the audit alone.

    Attributes:
        without_area: id of an image -> what stands in its file as a box and is inverted or has no area.
        stated_sizes: id of an image -> (width, height) that the file with its boxes speaks of, where it does.
    """

    without_area: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    stated_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    task = "detect"
    unit = "boxes"
    noun = "boxes"
    sorted_names = False

    def indices(self, label: Sequence[Box]) -> tuple[int, ...]:
        return tuple(box.label for box in label)

    def relabeled(self, label: Sequence[Box], index: Mapping[int, int]) -> tuple[Box, ...]:
        return tuple(replace(box, label=index[box.label]) for box in label)

    def look(self, record: Record, *, classes: int, size: tuple[int, int]) -> Facts:
        upright = size[1], size[0]
        stated = self.stated_sizes.get(record.id)
        boxes = [*((-1, box) for box in self.without_area.get(record.id, ())), *enumerate(record.label)]
        seen = BoxesSeen(
            faults=tuple(_faults(record.id, boxes, size=upright)),
            size=upright,
            wrong_size=stated if stated and stated != upright else None,
        )
        return replace(super().look(record, classes=classes, size=size), details=seen)

    def alike(self, one: tuple[Record, Facts], other: tuple[Record, Facts]) -> bool:
        ours, theirs = (_in_fractions(record, facts) for record, facts in (one, other))
        apart = SAME_PLACE / min(*one[1].details.size, *other[1].details.size)
        if len(ours) != len(theirs):
            return False
        for label, *sides in ours:
            near = [
                place
                for place, (also, *others) in enumerate(theirs)
                if also == label and max(abs(a - b) for a, b in zip(sides, others, strict=True)) <= apart
            ]
            if not near:
                return False
            theirs.pop(near[0])
        return True

    def cleaned(self, record: Record, facts: Facts) -> Record:
        unusable = {fault.place for fault in facts.details.faults if fault.unusable}
        if not unusable:
            return record
        return replace(record, label=tuple(box for place, box in enumerate(record.label) if place not in unusable))

    def line(self, record: Record, facts: Facts | None, names: Sequence[str]) -> tuple[Any, ...]:
        return None, None if record.label is None else [list(asdict(box).values()) for box in record.label]

    def unread(self, records: Iterable[Record]) -> list[str]:
        count = sum(len(self.without_area.get(record.id, ())) for record in records)
        return [f"boxes inverted or without area: {count}"] if count else []

    def faults(self, audit: Audit) -> list[BoxFault]:
        return [fault for facts in audit.facts.values() for fault in facts.details.faults]

    def wrong_sizes(self, audit: Audit) -> dict[str, BoxesSeen]:
        """By id: images of another size than their labels state."""
        return {id: facts.details for id, facts in audit.facts.items() if facts.details.wrong_size}

    def to_dict(self, audit: Audit) -> dict[str, Any]:
        return {
            "box_faults": [
                {"file": fault.id, "box": fault.place, "fault": fault.kind, "share_outside": fault.share}
                for fault in self.faults(audit)
            ],
            "wrong_sizes": [
                {"file": id, "stated": list(seen.wrong_size or ()), "true": list(seen.size)}
                for id, seen in self.wrong_sizes(audit).items()
            ],
        }

    def columns(self, audit: Audit, split: str | None) -> list[tuple[str, dict[str, str]]]:
        [(_, counts)] = super().columns(audit, split)
        return [(f"{split} boxes" if split else "boxes", counts)]

    def errors(self, audit: Audit) -> Iterator[Finding]:
        if not sum(audit.training_counts().values()):
            yield Finding("error", "no_boxes", "no training image has a box.")

    def warnings(self, audit: Audit) -> Iterator[Finding]:
        if ids := tuple(record.id for record in audit.dataset.records if record.label is None):
            yield Finding("warning", "without_label", f"{images(len(ids))} without annotations.", ids)
        wrong = self.wrong_sizes(audit)
        if wrong:
            id, seen = next(iter(wrong.items()))
            stated = seen.wrong_size or (0, 0)
            yield Finding(
                "warning",
                "label_size",
                f"{images(len(wrong))} whose size differs from the one in their labels, so boxes may be misplaced. "
                f"The first: {id} is {seen.size[0]} x {seen.size[1]} pixels (upright), its label states "
                f"{stated[0]} x {stated[1]}.",
                tuple(wrong),
            )
        for kind, sentence in SENTENCES.items():
            faults = [fault for fault in self.faults(audit) if fault.kind == kind]
            if not faults:
                continue
            ids = tuple(dict.fromkeys(fault.id for fault in faults))
            worst = max(fault.share for fault in faults)
            most = f", the worst with {100 * worst:.0f} % of its area" if kind == "outside" else ""
            yield Finding(
                "warning",
                f"box_{kind}",
                f"{counted(len(faults), 'box')} in {images(len(ids))} {sentence[0]}{most}; {sentence[1]}.",
                ids,
            )
        yield from imbalance(audit, unit=self.unit)
        yield from without_labels(audit, what="box")
        yield from few(audit, unit=self.unit, code="few_boxes")

    def notes(self, audit: Audit) -> Iterator[Finding]:
        background = tuple(record.id for record in audit.dataset.records if record.label == ())
        if background and len(background) < len(audit.dataset.records):
            sentence = f"{images(len(background))} without objects, used as background images."
            yield Finding("note", "background", sentence, background)


def _faults(id: str, boxes: Iterable[tuple[int, Box]], *, size: tuple[int, int]) -> Iterator[BoxFault]:
    """
    Args:
        boxes: each with its place.
        size: (width, height) of the upright image, pixels.
    """
    placed = list(boxes)
    repeated = _repeated([box for _, box in placed])
    for (place, box), again in zip(placed, repeated, strict=True):
        fault = BoxFault(id=id, place=place, kind="empty")
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
        if again:
            yield replace(fault, kind="duplicate")
        elif width < TINY * size[0] or height < TINY * size[1]:
            yield replace(fault, kind="tiny")


def usable_boxes(record: Record, *, size: tuple[int, int]) -> tuple[Box, ...]:
    """The boxes of an image that count, in training and in every metric: cut at its frame, without the unusable ones.

    Args:
        size: (width, height) of the upright image, pixels.
    """
    boxes = list(enumerate(record.label or ()))
    unusable = {fault.place for fault in _faults(record.id, boxes, size=size) if fault.unusable}
    kept = [box for place, box in boxes if place not in unusable]
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


def _in_fractions(record: Record, facts: Facts) -> list[tuple[float, ...]]:
    """(label, left, top, right, bottom) of each usable box, as fractions of the image; marks do not count."""
    width, height = facts.details.size
    boxes = usable_boxes(record, size=(width, height))
    return [(box.label, box.left / width, box.top / height, box.right / width, box.bottom / height) for box in boxes]


def _repeated(boxes: Sequence[Box]) -> list[bool]:
    """Of each box, whether an earlier one of its class lies in its place; a box that is inverted or empty does not.

    Of more than COMPARED boxes in one image, only those with the very same corners.
    """
    if len(boxes) > COMPARED:
        seen: set[tuple[float, ...]] = set()
        repeated = []
        for box in boxes:
            place = (box.label, box.crowd, box.left, box.top, box.right, box.bottom)
            repeated.append(place in seen and has_area(box))
            seen.add(place)
        return repeated
    corners = np.array([(box.left, box.top, box.right, box.bottom) for box in boxes], dtype=float).reshape(-1, 4)
    kinds = np.array([(box.label, box.crowd) for box in boxes]).reshape(-1, 2)
    same = (box_iou(corners, corners) >= SAME_BOX) & (kinds[:, None] == kinds).all(axis=2)
    found: list[bool] = np.tril(same, -1).any(axis=1).tolist()
    return found


def has_area(box: Box) -> bool:
    return box.left < box.right and box.top < box.bottom
