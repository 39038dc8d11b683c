"""One or several numbers per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from rich.markup import escape

from handlens.data.record import Dataset, Record
from handlens.figures import MEASURED, R2
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.results import Numbers
from handlens.runtimes.agreement import ROUNDED, Agreement
from handlens.tasks.classify.task import Classify
from handlens.tasks.image_level import image_tile, start_image_model
from handlens.tasks.pieces import ForApps, Frozen, Headline, Labeled, Measure, OfClass, Reason, Start, Tile, output_of
from handlens.tasks.regress.agreement import changed_values, compare_values
from handlens.tasks.regress.names import VALUES
from handlens.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from handlens.runtimes.engine import Arrays
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run


class Regress(Task):
    name = "regress"
    models = Classify.name
    metric = "r2"
    metric_title = "R²"
    scale = R2
    of_class = OfClass("MAE", higher=False, scale=MEASURED)
    outputs = (VALUES,)
    result = Numbers
    compared = "numbers"
    differs = "their spread"
    uses = frozenset({"dropout", "augmented_copies", "number_loss", "augment.trivial", "augment.rotate"})
    has_head = True
    defaults: ClassVar[Mapping[str, Any]] = {"augment": {"crop_area": 1.0}}  # a part has another area, count or weight
    published_classes = Classify.published_classes

    def answer(
        self,
        arrays: Arrays,
        height: int,
        width: int,
        *,
        preprocess: Preprocess,
        names: tuple[str, ...],
        thresholds: Sequence[float],
    ) -> Numbers:
        return Numbers(np.asarray(arrays[VALUES], dtype=np.float32), names)

    def measure(self, run: Run, kind: Any) -> Measure:
        from handlens.tasks.regress.measure import NumberMeasure

        return NumberMeasure(run)

    def headline(self, result: Mapping[str, Any]) -> Headline:
        rows = result["metrics"]["per_value"]
        sentences = tuple(
            f"[bold]{escape(row['name'])}: MAE {row['mae']:.4g}[/] on {result['images']} images "
            f"({result['split']}){_interval(row['mae_interval'])}; baseline, predicting the training mean: "
            f"{row['mae_of_mean']:.4g}."
            for row in rows
        )
        keys = ("name", "mae", "rmse", "r2", "mae_of_mean", "rmse_of_mean")
        return Headline(sentences, tuple({key: row[key] for key in keys} for row in rows))

    def shown(self, value: float) -> str:
        return f"{self.metric_title} {value:.3f}"

    def tile(self, record: Record, meaning: Labeled) -> Tile:
        if record.label is None:
            return image_tile(record, "no number")
        pairs = zip(meaning.class_names, record.label, strict=True)
        return image_tile(record, "\n".join(f"{name} {value:.6g}" for name, value in pairs))

    def compare(
        self, values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]
    ) -> Agreement:
        return compare_values(values, expected, ids)

    def changed(self, values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float:
        return changed_values(values, own)

    def for_apps(self, chosen: Mapping[str, Any], expected: Arrays, *, exact: bool) -> ForApps:
        spread = chosen.get("training_std") or np.abs(expected[VALUES]).max(axis=0).tolist()
        part = 1e-3 if exact else ROUNDED
        return ForApps(
            Path(__file__).with_name("answer.py"),
            {VALUES: "each number by name, in the unit of the labels that were learned from"},
            {"kind": "close", "output": VALUES, "tolerances": [part * max(width, 1e-9) for width in spread]},
        )

    def start(self, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        return start_image_model(recipe, len(dataset.class_names), report)

    def learning(self, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
        from handlens.tasks.regress.training import learning

        return learning(recipe, dataset, preprocess)

    def frozen(self, dataset: Dataset) -> Frozen:
        from handlens.tasks.regress.head import FrozenNumbers
        from handlens.tasks.regress.scale import TargetScale

        return FrozenNumbers(TargetScale.of(dataset.part("train")))

    def finish(self, net: nn.Module, dataset: Dataset, chosen: Mapping[str, Any]) -> None:
        from handlens.tasks.regress.scale import TargetScale
        from handlens.tasks.regress.training import give_units

        give_units(net, TargetScale.of(dataset.part("train")))

    def choose(
        self, net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
    ) -> dict[str, Any]:
        """What reports compare with: the mean of the training images, and how far they spread."""
        from handlens.tasks.regress.scale import TargetScale

        scale = TargetScale.of(dataset.part("train"))
        return {"training_mean": scale.mean.tolist(), "training_std": scale.std.tolist()}

    def chosen(self, values: Mapping[str, Any]) -> str:
        return f"Mean of the training images: {', '.join(f'{mean:.4g}' for mean in values['training_mean'])}."

    def refuses_model(self, net: nn.Module, raw: Any, *, classes: int, height: int, width: int) -> str | None:
        from torch import nn

        if not isinstance(getattr(net, "classifier", None), nn.Linear):
            return "its last layer must be a torch.nn.Linear called classifier, which gets the unit of the numbers"
        return super().refuses_model(net, raw, classes=classes, height=height, width=width)

    def last_step(self, net: nn.Module, raw: Tensor, *, suppress: bool = True) -> Tensor:
        return raw

    def reasons(
        self, net: nn.Module, raw: Tensor, *, names: Sequence[str], thresholds: Sequence[float], wanted: int | None
    ) -> list[Reason]:
        """Each number: what raises it."""
        return [
            Reason(f"{names[place]} {float(raw[0, place]):.4g}", output_of(place))
            for place in (range(len(names)) if wanted is None else [wanted])
        ]

    def golden(self, record: Record, names: Sequence[str], arrays: Arrays) -> dict[str, Any]:
        label = None if record.label is None else dict(zip(names, record.label, strict=True))
        return {"label": label, "predicted": dict(zip(names, arrays[VALUES].tolist(), strict=True))}


def _interval(ends: Sequence[float] | None) -> str:
    return f", 95 % interval {ends[0]:.4g} to {ends[1]:.4g}" if ends else ""
