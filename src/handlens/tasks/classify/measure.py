"""How good a classifier is: probabilities and labels of every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.record import Record
from handlens.evaluation import plots
from handlens.evaluation.metrics import wilson_interval
from handlens.files import write_bytes
from handlens.results import Classes
from handlens.tasks.measuring import EXAMPLES, curves_of
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.evaluation.paired import EachImage
    from handlens.evaluation.report import About
    from handlens.tasks.classify.shown import Cell
    from handlens.tasks.pieces import HeatMaps

TABLE_CLASSES = 40  # above this the confusion matrix is no table that anybody reads
UPRIGHT_CLASSES = 8  # above this the names over the columns are turned
MOST_CONFUSED = 8
MISTAKES = 500  # rows of the table of wrong images


class ClassMeasure:
    """Probabilities and labels of every image."""

    kept: tuple[str, ...] = ("top1", "top5", "loss", "count")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.rows: list[NDArray[np.float32]] = []
        self.records: list[Record] = []

    def add(self, record: Record, result: Classes) -> None:
        self.rows.append(result.probabilities)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluation.metrics import classification_metrics

        return classification_metrics(np.stack(self.rows), self._labels(), self.names)

    def each(self) -> EachImage:
        """Right or wrong."""
        from handlens.evaluation.paired import EachImage
        from handlens.evaluation.resampling import accuracy

        rows, labels = np.stack(self.rows), self._labels()
        right = rows.argmax(axis=1) == labels
        sure = rows[np.arange(len(labels)), labels].astype(float)
        resampled = accuracy(right, labels, len(self.names))
        return EachImage(
            right.astype(float), sure, "whether its class is right", True, True, resampled, 4 * len(labels)
        )

    def write_report(
        self, path: Path, run: Run, *, metrics: dict[str, Any], about: About, heat: HeatMaps | None
    ) -> None:
        from handlens.evaluation.errors import ranked
        from handlens.evaluation.report import write_report
        from handlens.tasks.classify.shown import cells, large_examples

        confusion = b""
        if metrics["confusion"]:
            confusion = plots.confusion_plot(np.array(metrics["confusion"]), self.names)
            write_bytes(path.with_name("confusion.png"), confusion)
        order = ranked(np.stack(self.rows), self._labels(), [record.id for record in self.records])
        paths = {record.id: record.path for record in self.records}
        before = self._before(run.model.temperature)
        listed = {pair["place"] for pair in most_confused(metrics)[:MOST_CONFUSED]}
        pairs = None if len(self.names) <= TABLE_CLASSES else listed  # which have a number to click on
        write_report(
            path,
            template=Path(__file__).with_name("report.html.jinja"),
            title=run.folder.resolve().name,
            model=run.model.to_dict(),
            metrics=metrics,
            images={
                "curves": curves_of(run),
                "confusion": confusion,
                "reliability": plots.reliability_plot(metrics["calibration"]["bins"]),
                "reliability_before": None if before is None else plots.reliability_plot(before["bins"]),
            },
            examples={
                kind: large_examples(order[kind][:EXAMPLES], paths, self.names, heat) for kind in ("wrong", "right")
            },
            about=about,
            more=shown_beside(
                run.model.to_dict(),
                metrics,
                mistakes=self._mistakes(order["wrong"]),
                cells=cells(order, paths, self.names, pairs=pairs),
                before=before,
            ),
        )

    def _before(self, temperature: float) -> dict[str, Any] | None:
        """The calibration of the same predictions without the temperature; None where it is 1."""
        from handlens.evaluation.calibration import calibration, tempered

        if temperature == 1:
            return None
        return calibration(tempered(np.stack(self.rows), 1 / temperature), self._labels())

    def _mistakes(self, wrong: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "file": entry["id"],
                "truth": self.names[entry["label"]],
                "predicted": self.names[entry["predicted"]],
                "confidence": entry["confidence"],
            }
            for entry in wrong
        ]

    def _labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return np.array([record.label for record in self.records], dtype=np.int64)


def shown_beside(
    model: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    mistakes: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    before: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the page says beside the metrics as they are.

    Args:
        mistakes: file, truth, predicted and confidence of each, most confident first.
        cells: of the confusion matrix.
        before: `evaluation.calibration.calibration` of the same predictions without the temperature.
    """
    return {
        "cells": cells,
        "before": before,
        "validation_interval": _validation_interval(model),
        "most_confused": most_confused(metrics)[:MOST_CONFUSED],
        "mistakes": mistakes[:MISTAKES],
        "more_mistakes": max(0, len(mistakes) - MISTAKES),
        "confusion_table": len(metrics["per_class"]) <= TABLE_CLASSES,
        "upright": len(metrics["per_class"]) > UPRIGHT_CLASSES,
    }


def most_confused(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pairs of `metrics["confused"]`, each with its share of the images of the true class and its place, the true
    and the predicted class index."""
    counts = {row["class"]: row["count"] for row in metrics["per_class"]}
    places = {row["class"]: place for place, row in enumerate(metrics["per_class"])}
    return [
        pair
        | {
            "share": pair["count"] / counts[pair["truth"]],
            "place": (places[pair["truth"]], places[pair["predicted"]]),
        }
        for pair in metrics["confused"]
    ]


def _validation_interval(model: Mapping[str, Any]) -> tuple[float, float] | None:
    """No accuracy without its interval; model.json stores the share and the number of images."""
    if "validation" not in model:
        return None
    top1, count = model["validation"]["top1"], model["validation"]["count"]
    return wilson_interval(round(top1 * count), count)
