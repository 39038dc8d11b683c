"""Several labels per image, or none of them: a label is the ascending tuple of its class indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.classes import ClassLabels
from handlens.data.labels.finding import Finding, images, listed
from handlens.data.labels.kind import Facts, Kind, few, imbalance, without_labels

if TYPE_CHECKING:
    from handlens.data.findings import Audit
    from handlens.data.record import Dataset, Record


@dataclass(frozen=True)
class TagLabels(Kind):
    task = "tag"
    noun = "labels"
    total = "labels"

    @classmethod
    def taken_from(cls, dataset: Dataset) -> Dataset | None:
        """Images with one class each are images that may have several labels."""
        if not isinstance(dataset.kind, ClassLabels):
            return super().taken_from(dataset)
        records = [replace(r, label=None if r.label is None else (r.label,)) for r in dataset.records]
        return replace(dataset, kind=TagLabels(), records=tuple(records))

    def indices(self, label: tuple[int, ...]) -> tuple[int, ...]:
        return label

    def relabeled(self, label: tuple[int, ...], index: Mapping[int, int]) -> tuple[int, ...]:
        return tuple(sorted(index[tag] for tag in label))

    def line(self, record: Record, facts: Facts | None, names: Sequence[str]) -> tuple[Any, ...]:
        return (None if record.label is None else [names[tag] for tag in record.label],)

    def errors(self, audit: Audit) -> Iterator[Finding]:
        yield from ()

    def warnings(self, audit: Audit) -> Iterator[Finding]:
        yield from imbalance(audit, unit=self.unit, hint="class weights or ")
        yield from without_labels(audit, what="image")
        training = sum(record.split in (None, "train") for record in audit.dataset.records)
        always = [name for name, count in audit.training_counts().items() if count == training]
        if always:
            yield Finding(
                "warning",
                "class_of_all",
                f"every training image has {listed(always)}: this cannot be learned without negative examples.",
            )
        yield from few(audit, unit=self.unit, code="few_images")

    def notes(self, audit: Audit) -> Iterator[Finding]:
        untagged = tuple(record.id for record in audit.dataset.records if record.label == ())
        if untagged:
            yield Finding("note", "no_tags", f"{images(len(untagged))} with none of the classes.", untagged)


def tag_targets(records: Sequence[Record], num_classes: int) -> NDArray[np.float32]:
    """(N, K) float32, 1 where an image has the label.

    Raises:
        ValueError: of an image nothing is known.
    """
    targets = np.zeros((len(records), num_classes), dtype=np.float32)
    for row, record in enumerate(records):
        if record.label is None:
            raise ValueError(f"{record.id} has no labels")
        targets[row, list(record.label)] = 1
    return targets
