"""What a kind of label is: all that reading, splitting and auditing a data set ask of its labels, behind one Protocol.

A new kind is a new file beside this one and a line in `KINDS`. Nothing here imports torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from handlens.data.labels.finding import Finding, listed

if TYPE_CHECKING:
    from handlens.data.findings import Audit
    from handlens.data.record import Dataset, Record

# Our choice.
LARGEST_IMBALANCE = 10.0  # of the largest class per one of the smallest
FEWEST_IN_TRAINING = 10  # images or boxes per class


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an audit saw of one label.

    Attributes:
        counts: class index -> what `class_counts` counts: images, or boxes.
        amounts: class index -> what imbalance is measured in: as `counts`, or pixels.
        usable: False leaves the image out of training.
        details: the kind's own.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    amounts: Mapping[int, int] = field(default_factory=dict)
    usable: bool = True
    details: Any = None


class Kind(Protocol):
    """One frozen object per data set.

    Attributes:
        task: that such labels are for.
        unit: what class counts count.
        noun: what the labels are called in a sentence.
        named: what each of the data set's class names is the name of.
        total: what the sum of the class counts is called.
        sorted_names: class names are sorted by code point, never numbered by the data.
    """

    task: ClassVar[str]
    unit: ClassVar[str] = "images"
    noun: ClassVar[str]
    named: ClassVar[str] = "class"
    sorted_names: ClassVar[bool] = True
    total: ClassVar[str] = "all"

    @classmethod
    def taken_from(cls, dataset: Dataset) -> Dataset | None:
        """A data set with labels of this kind; None where its labels are of another and cannot be taken for it."""
        return dataset if isinstance(dataset.kind, cls) else None

    def indices(self, label: Any) -> tuple[int, ...]:
        """Class indices in a label, as often as they are there; none where they stand in a file of its own."""
        ...

    def renumbered(self, index: Mapping[int, int]) -> Kind:
        """The kind of the same labels with other class indices: `index` is from these to those."""
        return self

    def relabeled(self, label: Any, index: Mapping[int, int]) -> Any:
        """A label with other class indices."""
        ...

    def look(self, record: Record, *, classes: int, size: tuple[int, int]) -> Facts:
        """
        Args:
            record: it has a label.
            classes: how many there are.
            size: (height, width) of the upright image, pixels.
        """
        counts = dict(Counter(self.indices(record.label)))
        return Facts(counts=counts, amounts=counts)

    def alike(self, one: tuple[Record, Facts], other: tuple[Record, Facts]) -> bool:
        """Whether copies of one image, perhaps of other sizes, are labeled alike."""
        return bool(one[0].label == other[0].label)

    def cleaned(self, record: Record, facts: Facts) -> Record:
        """Without what nothing can be learned from."""
        return record

    def line(self, record: Record, facts: Facts | None, names: Sequence[str]) -> tuple[Any, ...]:
        """What a fingerprint has of a label: what stands before the split and the bytes, then what stands behind."""
        ...

    def meaning(self, names: Sequence[str]) -> list[Any] | None:
        """What a fingerprint begins with; None where the lines say it all."""
        return [list(names), []]

    def unread(self, records: Iterable[Record]) -> list[str]:
        """Sentences about what stands in the files of these images and is in no label."""
        return []

    def to_dict(self, audit: Audit) -> dict[str, Any]:
        """What `check --json` has of these labels beside the class counts."""
        return {}

    def columns(self, audit: Audit, split: str | None) -> list[tuple[str, dict[str, str]]]:
        """(title, class name -> text) of a split's columns in the table of classes."""
        counts = audit.class_counts.get(split or "all", {})
        return [(split or self.unit, {name: str(count) for name, count in counts.items()})]

    def errors(self, audit: Audit) -> Iterator[Finding]:
        """What makes the labels of all images together unfit for the task."""
        ...

    def warnings(self, audit: Audit) -> Iterator[Finding]: ...

    def notes(self, audit: Audit) -> Iterator[Finding]:
        yield from ()


def imbalance(audit: Audit, *, unit: str, hint: str = "") -> Iterator[Finding]:
    """A class that is far rarer than another."""
    if audit.imbalance is None or audit.imbalance <= LARGEST_IMBALANCE:
        return
    counts = audit.training_counts()
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    yield Finding(
        "warning",
        "imbalance",
        f"{counts[largest]} training {unit} of {largest} but {counts[smallest]} of {smallest}; "
        f"{hint}more {unit} of {smallest} would help.",
    )


def without_labels(audit: Audit, *, what: str) -> Iterator[Finding]:
    """Classes of which training has nothing, where it has something of others."""
    counts = audit.training_counts()
    without = [name for name, count in counts.items() if not count]
    if without and len(without) < len(counts):
        yield Finding(
            "warning",
            "class_without_labels",
            f"no training {what} of {listed(without)}: these classes cannot be learned.",
        )


def few(audit: Audit, *, unit: str, code: str, at_least: int = 1) -> Iterator[Finding]:
    """Classes with too little to learn from, those below `at_least` aside."""
    found = [
        f"{name} {count}" for name, count in audit.training_counts().items() if at_least <= count < FEWEST_IN_TRAINING
    ]
    if found:
        yield Finding("warning", code, f"fewer than {FEWEST_IN_TRAINING} training {unit}: {listed(found)}.")


def one_class(audit: Audit, *, where: str) -> Iterator[Finding]:
    present = audit.present_classes()
    if len(present) == 1:
        yield Finding("error", "one_class", f"all {where} of one class, {present[0]}; at least two are needed.")
