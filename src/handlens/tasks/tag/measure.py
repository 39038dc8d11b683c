"""How good a multi-label classifier is: a probability per class and the labels of every image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.decode import decode
from handlens.data.labels.tags import tag_targets
from handlens.data.record import Record
from handlens.evaluation import plots
from handlens.evaluation.contact_sheet import contact_sheet, jpeg_bytes
from handlens.results import Tags
from handlens.tasks.measuring import EXAMPLES, curves_of
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.evaluation.paired import EachImage
    from handlens.evaluation.report import About
    from handlens.tasks.pieces import HeatMaps


class TagMeasure:
    """Probabilities and labels of every image, which may have several."""

    kept: tuple[str, ...] = ("map", "exact", "f1", "macro_f1", "loss", "count")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.thresholds: list[float] = run.model.chosen["thresholds"]
        self.rows: list[NDArray[np.float32]] = []
        self.records: list[Record] = []

    def add(self, record: Record, result: Tags) -> None:
        self.rows.append(result.probabilities)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluation.tags import tag_metrics

        return tag_metrics(np.stack(self.rows), self._truth(), self.names, self.thresholds)

    def each(self) -> EachImage:
        """Right where no label is missing and none is too many."""
        from handlens.evaluation.paired import EachImage
        from handlens.evaluation.resampling import mean_average_precision

        rows, truth = np.stack(self.rows), self._truth()
        wrong = ((rows >= np.asarray(self.thresholds)) != truth).sum(axis=1)
        sure = np.where(truth, rows, 1 - rows).mean(axis=1).astype(float)
        resampled = mean_average_precision(rows, truth)
        return EachImage(
            (wrong == 0).astype(float),
            sure - wrong,
            "whether all its labels are right",
            True,
            False,
            resampled,
            6 * rows.size,
        )

    def write_report(
        self, path: Path, run: Run, *, metrics: dict[str, Any], about: About, heat: HeatMaps | None
    ) -> None:
        from handlens.evaluation.report import write_report

        curves = [
            plots.Curve(
                row["class"],
                place,
                row["curve"],
                row["ap"],
                row["count"],
                point=None if row["precision"] is None else (row["recall"], row["precision"]),
            )
            for place, row in enumerate(metrics["per_class"])
            if row["curve"] is not None
        ]
        drawn = None
        if curves:
            drawn = plots.precision_recall_plot(curves, found="images of the class", answered="predictions", ap="AP")
        write_report(
            path,
            template=Path(__file__).with_name("report.html.jinja"),
            title=run.folder.resolve().name,
            model=run.model.to_dict(),
            metrics=metrics,
            images={"curves": curves_of(run), "precision_recall": drawn},
            examples={"wrong": self._sheet()},
            about=about,
        )

    def _truth(self) -> NDArray[np.bool_]:
        """(N, K)."""
        return np.asarray(tag_targets(self.records, len(self.names)) > 0)

    def _sheet(self) -> bytes | None:
        """The images with the most wrong and missing labels."""
        answered = np.stack(self.rows) >= np.asarray(self.thresholds)
        truth = self._truth()
        mistakes = (answered != truth).sum(axis=1)
        shown = [int(place) for place in np.argsort(-mistakes, kind="stable")[:EXAMPLES] if mistakes[place]]
        if not shown:
            return None

        def named(place: int, sign: str, which: NDArray[np.bool_]) -> list[str]:
            return [f"{sign}{self.names[label]}" for label in np.flatnonzero(which[place])]

        captions = [
            "\n".join(
                [
                    self.records[place].path.name,
                    *named(place, "+", answered & ~truth),
                    *named(place, "-", truth & ~answered),
                ]
            )
            for place in shown
        ]
        images = (decode(self.records[place].path, at_least=(160, 160)) for place in shown)
        return jpeg_bytes(contact_sheet(images, captions))
