"""One class per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.record import Dataset, Record
from handlens.evaluation.metrics import wilson_interval
from handlens.figures import percent
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.results import Classes, ClassSet, KnownClasses
from handlens.runtimes.agreement import ROUNDED, TOLERANCE, Agreement
from handlens.runtimes.names import PROBABILITIES
from handlens.tasks.image_level import image_tile, start_image_model
from handlens.tasks.pieces import (
    VALIDATION,
    ForApps,
    Frozen,
    Headline,
    Labeled,
    Measure,
    OfClass,
    Reason,
    Start,
    Tile,
    output_of,
)
from handlens.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from handlens.data.check import Audit
    from handlens.quantization.prediction import Prediction
    from handlens.runtimes.engine import Arrays
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run

LISTED = 50  # classes; of more, nobody reads the table


class Classify(Task):
    name = "classify"
    models = name
    metric = "top1"
    metric_title = "accuracy"
    of_class = OfClass("recall")
    tolerated = "Probabilities"
    outputs = (PROBABILITIES,)
    result = Classes
    compared = "labels"
    differs = "probabilities"
    uses = frozenset(
        {
            "class_weights",
            "dropout",
            "label_smoothing",
            "augmented_copies",
            "augment.mixup",
            "augment.cutmix",
            "augment.trivial",
            "augment.rotate",
        }
    )
    has_head = True
    shows_heat = True
    has_temperature = True
    set_result = ClassSet
    known_result = KnownClasses
    predicts_drop = True
    published_classes = 1000  # of ImageNet

    def answer(
        self,
        arrays: Arrays,
        height: int,
        width: int,
        *,
        preprocess: Preprocess,
        names: tuple[str, ...],
        thresholds: Sequence[float],
    ) -> Classes:
        return Classes(arrays[PROBABILITIES], names)

    def measure(self, run: Run, kind: Any) -> Measure:
        from handlens.tasks.classify.measure import ClassMeasure

        return ClassMeasure(run)

    def headline(self, result: Mapping[str, Any]) -> Headline:
        metrics = result["metrics"]
        low, high = metrics["top1_interval"]
        sentences = [
            f"[bold]Accuracy {percent(metrics['top1'])}[/] on {result['images']} images ({result['split']}); "
            f"95 % interval {percent(low)} to {percent(high)}; "
            f"majority class baseline: {percent(metrics['majority_baseline']['share'])}."
        ]
        if metrics["top5"] is not None:
            sentences.append(f"Top-5 accuracy {percent(metrics['top5'])}.")
        sentences.append(f"Loss {metrics['loss']:.4f}; calibration error {percent(metrics['calibration']['ece'])}.")
        rows = tuple(row for row in metrics["per_class"] if row["count"])
        return Headline(tuple(sentences), rows if len(rows) <= LISTED else ())

    def interval(self, value: float, count: int) -> tuple[float, float]:
        return wilson_interval(round(value * count), count)

    def tile(self, record: Record, meaning: Labeled) -> Tile:
        return image_tile(record, "no label" if record.label is None else meaning.class_names[record.label])

    def compare(
        self, values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]
    ) -> Agreement:
        from handlens.tasks.classify.agreement import compare_classes

        return compare_classes(values, expected, ids)

    def changed(self, values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float:
        from handlens.tasks.classify.agreement import changed_classes

        return changed_classes(values, own)

    def for_apps(self, chosen: Mapping[str, Any], expected: Arrays, *, exact: bool) -> ForApps:
        meaning = "the probability of each class, in the order of the class names; they sum to 1"
        tolerance = TOLERANCE if exact else ROUNDED
        return ForApps(
            Path(__file__).with_name("answer.py"),
            {PROBABILITIES: meaning},
            {"kind": "close", "output": PROBABILITIES, "tolerances": [tolerance]},
            {"known_scores": chosen["known_scores"]} if "known_scores" in chosen else {},
        )

    def predicted_drop(self, values: Arrays, own: Arrays) -> Prediction:
        from handlens.quantization.prediction import predict_drop

        return predict_drop(own[PROBABILITIES], values[PROBABILITIES])

    def start(self, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        return start_image_model(recipe, len(dataset.class_names), report)

    def learning(self, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
        from handlens.tasks.classify.training import learning

        return learning(recipe, dataset, preprocess)

    def frozen(self, dataset: Dataset) -> Frozen:
        from handlens.tasks.classify.head import FrozenClasses

        return FrozenClasses()

    def choose(
        self, net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
    ) -> dict[str, Any]:
        """The temperature, by what the model gives for the validation images in PyTorch fp32."""
        import numpy as np

        from handlens.tasks.answers import validation_answers
        from handlens.tasks.temperature import chosen_temperature, takes_temperature

        if not takes_temperature(net, preprocess):
            return {}
        rows, labels = [], []
        for record, result in validation_answers(
            self, net, preprocess, dataset, thresholds=(), what="choosing the temperature", report=report
        ):
            assert isinstance(result, Classes)
            rows.append(result.probabilities)
            labels.append(record.label)
        return chosen_temperature(np.stack(rows), np.array(labels), VALIDATION) if rows else {}

    def chosen(self, values: Mapping[str, Any]) -> str:
        from handlens.tasks.temperature import said_of_temperature

        return said_of_temperature(values)

    def finish(self, net: nn.Module, dataset: Dataset, chosen: Mapping[str, Any]) -> None:
        from handlens.tasks.temperature import give_temperature

        if chosen:
            give_temperature(net, chosen["temperature"])

    def last_step(self, net: nn.Module, raw: Tensor, *, suppress: bool = True) -> Tensor:
        return raw.softmax(dim=1)

    def reasons(
        self, net: nn.Module, raw: Tensor, *, names: Sequence[str], thresholds: Sequence[float], wanted: int | None
    ) -> list[Reason]:
        probabilities = raw.softmax(dim=1)[0]
        index = int(probabilities.argmax()) if wanted is None else wanted
        return [Reason(f"{names[index]} {100 * float(probabilities[index]):.1f} %", output_of(index))]

    def golden(self, record: Record, names: Sequence[str], arrays: Arrays) -> dict[str, Any]:
        return {
            "label": None if record.label is None else names[record.label],
            "predicted": names[int(arrays[PROBABILITIES].argmax())],
        }

    def suspects(self, audit: Audit, report: Reporter) -> list[dict[str, Any]]:
        from handlens.tasks.classify.suspects import suspected_label_errors

        return suspected_label_errors(audit, report)
