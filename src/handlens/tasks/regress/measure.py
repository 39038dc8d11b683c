"""How far the predicted numbers are from the true ones, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.decode import decode
from handlens.data.labels.values import targets_of
from handlens.data.record import Record
from handlens.evaluation.contact_sheet import contact_sheet, jpeg_bytes
from handlens.evaluation.regression import regression_metrics
from handlens.results import Numbers
from handlens.tasks.measuring import EXAMPLES, curves_of
from handlens.tasks.regress.plot import predicted_against_true
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.evaluation.paired import EachImage
    from handlens.evaluation.report import About
    from handlens.tasks.pieces import HeatMaps


class NumberMeasure:
    kept: tuple[str, ...] = ("r2", "per_value", "count")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.training_mean: list[float] = run.model.chosen["training_mean"]
        self.training_std: list[float] = run.model.chosen["training_std"]
        self.rows: list[NDArray[np.float32]] = []
        self.records: list[Record] = []

    def add(self, record: Record, result: Numbers) -> None:
        self.rows.append(result.values)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        return regression_metrics(
            np.stack(self.rows), targets_of(self.records), self.names, training_mean=self.training_mean
        )

    def each(self) -> EachImage:
        """The largest of its errors, in standard deviations of the true numbers, with a minus."""
        from handlens.evaluation.paired import EachImage
        from handlens.evaluation.resampling import mean_r2

        predicted, truth = np.stack(self.rows).astype(np.float64), targets_of(self.records)
        spread = truth.std(axis=0)
        scores = -(np.abs(predicted - truth) / np.where(spread > 0, spread, 1.0)).max(axis=1)
        title = "its largest error, in standard deviations of the true numbers"
        return EachImage(scores, scores, title, False, False, mean_r2(predicted, truth), 6 * truth.size)

    def write_report(
        self, path: Path, run: Run, *, metrics: dict[str, Any], about: About, heat: HeatMaps | None
    ) -> None:
        from handlens.evaluation.report import write_report

        write_report(
            path,
            template=Path(__file__).with_name("report.html.jinja"),
            title=run.folder.resolve().name,
            model=run.model.to_dict(),
            metrics=metrics,
            images={
                "curves": curves_of(run),
                "predicted": predicted_against_true(np.stack(self.rows), targets_of(self.records), self.names),
            },
            examples={"wrong": self._sheet()},
            about=about,
        )

    def _sheet(self) -> bytes:
        """The images with the largest errors, in standard deviations of the training images."""
        predicted, truth = np.stack(self.rows), targets_of(self.records)
        apart = np.abs(predicted - truth) / np.asarray(self.training_std)
        shown = np.argsort(-apart.max(axis=1), kind="stable")[:EXAMPLES]
        captions = [
            "\n".join(
                [
                    self.records[int(i)].path.name,
                    *(
                        f"{name} {ours:.4g}, is {right:.4g}"
                        for name, ours, right in zip(self.names, predicted[i], truth[i], strict=True)
                    ),
                ]
            )
            for i in shown
        ]
        images = (decode(self.records[int(i)].path, at_least=(160, 160)) for i in shown)
        return jpeg_bytes(contact_sheet(images, captions))
