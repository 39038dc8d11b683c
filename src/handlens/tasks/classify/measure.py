"""How good a classifier is: probabilities and labels of every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.decode import decode
from handlens.data.record import Record
from handlens.evaluation import plots
from handlens.evaluation.contact_sheet import contact_sheet, jpeg_bytes
from handlens.evaluation.metrics import wilson_interval
from handlens.files import write_bytes
from handlens.results import Classes
from handlens.tasks.measuring import EXAMPLES, curves_of
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.evaluation.paired import EachImage
TABLE_CLASSES = 40  # above this the confusion matrix is no table that anybody reads
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

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        from handlens.evaluation.errors import ranked
        from handlens.evaluation.report import write_report

        confusion = b""
        if metrics["confusion"]:
            confusion = plots.confusion_plot(np.array(metrics["confusion"]), self.names)
            write_bytes(path.with_name("confusion.png"), confusion)
        order = ranked(np.stack(self.rows), self._labels(), [record.id for record in self.records])
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
            },
            examples={kind: self._sheet(order[kind][:EXAMPLES]) for kind in ("wrong", "right")},
            more=shown_beside(run.model.to_dict(), metrics, self._mistakes(order["wrong"])),
            **parts,
        )

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

    def _sheet(self, entries: Sequence[dict[str, Any]]) -> bytes | None:
        if not entries:
            return None
        paths = {record.id: record.path for record in self.records}
        captions = [
            f"{paths[entry['id']].name}\n{self.names[entry['predicted']]} {100 * entry['confidence']:.0f} %"
            + ("" if entry["predicted"] == entry["label"] else f"\nis {self.names[entry['label']]}")
            for entry in entries
        ]
        images = [decode(paths[entry["id"]], at_least=(160, 160)) for entry in entries]
        return jpeg_bytes(
            contact_sheet(images, captions, wrong=[entry["predicted"] != entry["label"] for entry in entries])
        )


def shown_beside(
    model: Mapping[str, Any], metrics: Mapping[str, Any], mistakes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the page says beside the metrics as they are.

    Args:
        mistakes: file, truth, predicted and confidence of each, most confident first.
    """
    return {
        "validation_interval": _validation_interval(model),
        "most_confused": most_confused(metrics)[:MOST_CONFUSED],
        "mistakes": mistakes[:MISTAKES],
        "more_mistakes": max(0, len(mistakes) - MISTAKES),
        "confusion_table": len(metrics["per_class"]) <= TABLE_CLASSES,
    }


def most_confused(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pairs of `metrics["confused"]`, each with its share of the images of the true class."""
    counts = {row["class"]: row["count"] for row in metrics["per_class"]}
    return [pair | {"share": pair["count"] / counts[pair["truth"]]} for pair in metrics["confused"]]


def _validation_interval(model: Mapping[str, Any]) -> tuple[float, float] | None:
    """No accuracy without its interval; model.json stores the share and the number of images."""
    if "validation" not in model:
        return None
    top1, count = model["validation"]["top1"], model["validation"]["count"]
    return wilson_interval(round(top1 * count), count)
