"""The kinds of labels. A new one is a new file here and a line in `KINDS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlens.data.labels.boxes import BoxLabels
from handlens.data.labels.classes import ClassLabels
from handlens.data.labels.kind import Kind
from handlens.data.labels.masks import MaskLabels
from handlens.data.labels.tags import TagLabels
from handlens.data.labels.values import ValueLabels
from handlens.errors import InputError, nearest

if TYPE_CHECKING:
    from handlens.data.record import Dataset

KINDS: dict[str, type[Kind]] = {
    "classify": ClassLabels,
    "tag": TagLabels,
    "segment": MaskLabels,
    "detect": BoxLabels,
    "regress": ValueLabels,
}


def as_task(dataset: Dataset, task: str) -> Dataset:
    """The data set with labels for a task: as it is, or what its labels can be taken for.

    Raises:
        InputError: no such task, or the labels are for another.
    """
    if task not in KINDS:
        raise InputError(f"unknown task {task!r}; {nearest(task, KINDS)}.")
    taken = KINDS[task].taken_from(dataset)
    if taken is None:
        raise InputError(f"{dataset.root} is labeled for {dataset.task} and cannot be used for {task}.")
    return taken
