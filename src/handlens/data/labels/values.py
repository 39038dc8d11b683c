"""One or several numbers per image, such as weight, age or a count: a label is the tuple of them.

The data set's class names are the names of the numbers, in the order of their columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.finding import Finding, images
from handlens.data.labels.kind import Facts, Kind
from handlens.errors import InputError

if TYPE_CHECKING:
    from handlens.data.findings import Audit
    from handlens.data.record import Record

# Our choice.
FAR_OUT = 10.0  # times the spread of the middle half, from the median: a slip of the pen more often than a rare case
FEWEST = 20  # training images


@dataclass(frozen=True)
class ValueLabels(Kind):
    task = "regress"
    noun = "numbers"
    named = "target"
    sorted_names = False

    def indices(self, label: tuple[float, ...]) -> tuple[int, ...]:
        return ()

    def relabeled(self, label: tuple[float, ...], index: Mapping[int, int]) -> tuple[float, ...]:
        """
        Raises:
            InputError: the model gives a number that the data does not have.
        """
        if set(index.values()) != set(range(len(index))):
            raise InputError("the model predicts a value for which the data has no column.")
        places = {there: here for here, there in index.items()}
        return tuple(label[places[place]] for place in range(len(label)))

    def look(self, record: Record, *, classes: int, size: tuple[int, int]) -> Facts:
        ones = dict.fromkeys(range(classes), 1)
        return Facts(counts=ones, amounts=ones)

    def alike(self, one: tuple[Record, Facts], other: tuple[Record, Facts]) -> bool:
        return all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(one[0].label, other[0].label, strict=True))

    def line(self, record: Record, facts: Facts | None, names: Sequence[str]) -> tuple[Any, ...]:
        return (None if record.label is None else list(record.label),)

    def to_dict(self, audit: Audit) -> dict[str, Any]:
        return {"values": {part: self._summary(audit, part) for part in audit.class_counts}}

    def columns(self, audit: Audit, split: str | None) -> list[tuple[str, dict[str, str]]]:
        part = f"{split} " if split else ""
        summary = self._summary(audit, split or "all")
        return [
            (f"{part}{key}", {name: f"{row[key]:,.6g}" for name, row in summary.items()})
            for key in ("images", "min", "median", "max")
        ]

    def errors(self, audit: Audit) -> Iterator[Finding]:
        values = _values(_training(audit))
        constant = [
            name for name, column in zip(audit.dataset.class_names, values.T, strict=True) if not column.std() > 0
        ]
        if constant:
            yield Finding("error", "one_value", f"{', '.join(constant)} has the same value in every training image.")

    def warnings(self, audit: Audit) -> Iterator[Finding]:
        if ids := tuple(record.id for record in audit.dataset.records if record.label is None):
            yield Finding("warning", "without_label", f"{images(len(ids))} without a number.", ids)
        training = _training(audit)
        values = _values(training)
        for place, name in enumerate(audit.dataset.class_names):
            low, middle, high = np.percentile(values[:, place], (25, 50, 75)) if len(values) else (0.0, 0.0, 0.0)
            far = [
                record
                for record in training
                if high > low and abs(record.label[place] - middle) > FAR_OUT * (high - low)
            ]
            if far:
                sentence = (
                    f"{images(len(far))} with an outlier in {name}, for example {far[0].label[place]:.6g} in "
                    f"{far[0].id}; the middle half of the values is {low:.6g} to {high:.6g}."
                )
                yield Finding("warning", "far_out", sentence, tuple(record.id for record in far))
        if len(training) < FEWEST:
            yield Finding("warning", "few_images", f"fewer than {FEWEST} training images: {len(training)}.")

    def _summary(self, audit: Audit, part: str) -> dict[str, dict[str, float]]:
        records = [r for r in audit.dataset.records if part in (r.split, "all") and r.id in audit.facts]
        values = _values(records)
        if not len(values):
            return {}
        return {
            name: {
                "images": len(column),
                "min": float(column.min()),
                "median": float(np.median(column)),
                "max": float(column.max()),
                "mean": float(column.mean()),
                "std": float(column.std()),
            }
            for name, column in zip(audit.dataset.class_names, values.T, strict=True)
        }


def targets_of(records: Sequence[Record]) -> NDArray[np.float64]:
    """(N, V).

    Raises:
        ValueError: of an image nothing is known.
    """
    for record in records:
        if record.label is None:
            raise ValueError(f"{record.id} has no numbers")
    return _values(records)


def _training(audit: Audit) -> list[Record]:
    return [r for r in audit.dataset.records if r.split in (None, "train") and r.id in audit.facts]


def _values(records: Sequence[Record]) -> NDArray[np.float64]:
    """(N, V)."""
    return np.array([record.label for record in records], dtype=np.float64).reshape(len(records), -1)
