"""One class per image: a label is a class index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlens.data.labels.finding import Finding
from handlens.data.labels.kind import Facts, Kind, few, imbalance, one_class

if TYPE_CHECKING:
    from handlens.data.findings import Audit
    from handlens.data.record import Record


@dataclass(frozen=True)
class ClassLabels(Kind):
    task = "classify"
    noun = "classes"

    def indices(self, label: int) -> tuple[int, ...]:
        return (label,)

    def relabeled(self, label: int, index: Mapping[int, int]) -> int:
        return index[label]

    def line(self, record: Record, facts: Facts | None, names: Sequence[str]) -> tuple[Any, ...]:
        return (None if record.label is None else names[record.label],)

    def meaning(self, names: Sequence[str]) -> None:
        return None  # the names stand in the lines

    def errors(self, audit: Audit) -> Iterator[Finding]:
        yield from one_class(audit, where="images are")
        without = [name for name, count in audit.training_counts().items() if not count]
        if without:
            yield Finding(
                "error",
                "class_without_images",
                f"no readable training image of {', '.join(without)}; add some, or remove the class.",
            )

    def warnings(self, audit: Audit) -> Iterator[Finding]:
        yield from imbalance(audit, unit=self.unit, hint="class weights or ")
        single = [name for name, count in audit.training_counts().items() if count == 1]
        if single:
            yield Finding(
                "warning",
                "single_image",
                f"classes with only one training image cannot be validated: {', '.join(single)}.",
            )
        yield from few(audit, unit=self.unit, code="few_images", at_least=2)
