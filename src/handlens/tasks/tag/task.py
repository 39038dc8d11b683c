"""Several labels per image, or none: each class on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from handlens.data.labels.tags import tag_targets
from handlens.data.record import Dataset, Record
from handlens.figures import percent
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.results import Tags
from handlens.runtimes.agreement import ROUNDED, TOLERANCE, Agreement
from handlens.runtimes.names import PROBABILITIES
from handlens.tasks.classify.task import Classify
from handlens.tasks.image_level import image_tile, start_image_model
from handlens.tasks.pieces import ForApps, Frozen, Headline, Labeled, Measure, OfClass, Reason, Start, Tile, output_of
from handlens.tasks.task import Task
from handlens.tasks.tiles import caption_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from handlens.runtimes.engine import Arrays
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run


class Tag(Task):
    name = "tag"
    models = Classify.name
    metric = "map"
    metric_title = "mAP"
    of_class = OfClass("average precision")
    tolerated = "Probabilities"
    outputs = (PROBABILITIES,)
    result = Tags
    compared = "labels"
    differs = "probabilities"
    uses = Classify.uses
    has_head = True
    published_classes = Classify.published_classes
    has_threshold = True

    def thresholds(self, chosen: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(chosen["thresholds"])

    def answer(
        self,
        arrays: Arrays,
        height: int,
        width: int,
        *,
        preprocess: Preprocess,
        names: tuple[str, ...],
        thresholds: Sequence[float],
    ) -> Tags:
        return Tags(arrays[PROBABILITIES], names, tuple(thresholds))

    def measure(self, run: Run, kind: Any) -> Measure:
        from handlens.tasks.tag.measure import TagMeasure

        return TagMeasure(run)

    def headline(self, result: Mapping[str, Any]) -> Headline:
        metrics = result["metrics"]
        base = metrics["exact_baseline"]
        sentences = (
            f"[bold]mAP {percent(metrics['map'])}[/] on {result['images']} images ({result['split']}); "
            f"random ranking: {percent(metrics['chance'])}.",
            f"F1 {percent(metrics['f1'])}; exact match {percent(metrics['exact'])}; "
            f"baseline, always predicting {escape(', '.join(base['labels']) or 'no class')}: {percent(base['share'])}.",
        )
        return Headline.by_class(
            sentences, metrics["per_class"], ("count", "threshold", "precision", "recall", "f1", "ap")
        )

    def tile(self, record: Record, meaning: Labeled) -> Tile:
        if record.label is None:
            return image_tile(record, "no label")
        return image_tile(record, caption_of([meaning.class_names[tag] for tag in record.label]) or "no class")

    def compare(
        self, values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]
    ) -> Agreement:
        from handlens.tasks.tag.agreement import compare_tags

        return compare_tags(values, expected, ids, thresholds=thresholds)

    def changed(self, values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float | None:
        from handlens.tasks.tag.agreement import changed_tags

        return changed_tags(values, own, thresholds=thresholds)

    def for_apps(self, chosen: Mapping[str, Any], expected: Arrays, *, exact: bool) -> ForApps:
        meaning = "the probability of each class on its own; one that reaches its threshold is a label of the image"
        tolerance = TOLERANCE if exact else ROUNDED
        return ForApps(
            Path(__file__).with_name("answer.py"),
            {PROBABILITIES: meaning},
            {"kind": "close", "output": PROBABILITIES, "tolerances": [tolerance]},
        )

    def start(self, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        return start_image_model(recipe, len(dataset.class_names), report)

    def learning(self, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
        from handlens.tasks.tag.training import learning

        return learning(recipe, dataset, preprocess)

    def frozen(self, dataset: Dataset) -> Frozen:
        from handlens.tasks.tag.head import FrozenTags

        return FrozenTags()

    def choose(
        self, net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
    ) -> dict[str, Any]:
        """Per label the threshold with the best F1 on validation, by what the net answers in PyTorch fp32."""
        import numpy as np

        from handlens.evaluation.tags import best_thresholds
        from handlens.tasks.answers import validation_answers

        names = dataset.class_names
        rows, records = [], []
        zeros = (0.0,) * len(names)
        for record, result in validation_answers(
            self, net, preprocess, dataset, thresholds=zeros, what="choosing thresholds", report=report
        ):
            assert isinstance(result, Tags)
            rows.append(result.probabilities)
            records.append(record)
        return {"thresholds": best_thresholds(np.stack(rows), tag_targets(records, len(names)) > 0)}

    def chosen(self, chosen: Mapping[str, Any]) -> str:
        return "The threshold of each class is the one with the best F1 on validation."

    def last_step(self, net: nn.Module, raw: Tensor, *, suppress: bool = True) -> Tensor:
        return raw.sigmoid()

    def reasons(
        self, net: nn.Module, raw: Tensor, *, names: Sequence[str], thresholds: Sequence[float], wanted: int | None
    ) -> list[Reason]:
        """Each label that the image has; of an image without one, the likeliest."""
        probabilities = raw.sigmoid()[0].tolist()
        order = sorted(range(len(names)), key=lambda label: -probabilities[label])
        found = [label for label in order if probabilities[label] >= thresholds[label]] or order[:1]
        return [
            Reason(f"{names[label]} {100 * probabilities[label]:.1f} %", output_of(label))
            for label in (found if wanted is None else [wanted])
        ]

    def golden(self, record: Record, names: Sequence[str], arrays: Arrays) -> dict[str, Any]:
        return {"labels": [names[tag] for tag in record.label or ()]}
