"""How good a detector is: boxes down to the smallest score, and the objects, of every image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.decode import decode
from handlens.data.labels.boxes import usable_boxes
from handlens.data.record import Record
from handlens.evaluation import plots
from handlens.evaluation.contact_sheet import jpeg_bytes
from handlens.results import Boxes
from handlens.tasks.measuring import PAIR_GAP, PAIR_WIDTH, PAIRS, curves_of, sheet_of_pairs
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.evaluation.paired import EachImage
    from handlens.evaluation.report import About
    from handlens.tasks.pieces import HeatMaps


class BoxMeasure:
    """Boxes down to the smallest score, and the objects, of every image."""

    kept: tuple[str, ...] = ("map", "map50", "images", "objects")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.threshold: float | None = run.model.chosen.get("threshold")
        self.predicted: list[Boxes] = []
        self.records: list[Record] = []  # with the boxes that count

    def add(self, record: Record, result: Boxes) -> None:
        self.predicted.append(result)
        self.records.append(replace(record, label=usable_boxes(record, size=(result.width, result.height))))

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluation.detection import detection_metrics
        from handlens.evaluation.error_kinds import error_kinds

        truths = [record.label or () for record in self.records]
        found = detection_metrics(self.predicted, truths, self.names, threshold=self.threshold)
        if found["operating_point"] is not None and self.threshold is not None:
            found["operating_point"]["errors"] = error_kinds(self.predicted, truths, self.threshold)
        return found

    def each(self) -> EachImage:
        """F1 of its boxes at the run's threshold."""
        from handlens.evaluation.detection import coco_json, image_f1
        from handlens.evaluation.paired import EachImage
        from handlens.evaluation.resampling import coco_classes, mean_average_precision_50

        truths = [record.label or () for record in self.records]
        taken = [boxes.above(self.threshold or 0.0) for boxes in self.predicted]
        scores = np.array([image_f1(boxes, truth) for boxes, truth in zip(taken, truths, strict=True)])
        classes = coco_classes(*coco_json(self.predicted, truths, len(self.names)))
        numbers = 6 * sum(len(boxes.image) for boxes in classes) + len(truths) * len(classes)
        return EachImage(
            scores,
            scores,
            "the F1 of its boxes at the model's threshold",
            False,
            False,
            mean_average_precision_50(classes),
            numbers,
        )

    def write_report(
        self, path: Path, run: Run, *, metrics: dict[str, Any], about: About, heat: HeatMaps | None
    ) -> None:
        from handlens.evaluation.error_kinds import KINDS
        from handlens.evaluation.report import write_report

        curves = self._precision_recall(metrics)
        write_report(
            path,
            template=Path(__file__).with_name("report.html.jinja"),
            title=run.folder.resolve().name,
            model=run.model.to_dict(),
            metrics=metrics,
            images={
                "curves": curves_of(run),
                "precision_recall": plots.precision_recall_plot(curves) if curves else None,
            },
            examples={"wrong": self._sheet()},
            more={"error_kinds": KINDS},
            about=about,
        )

    def _precision_recall(self, metrics: dict[str, Any]) -> list[plots.Curve]:
        point = metrics["operating_point"]
        chosen = point["per_class"] if point else [{"recall": None, "precision": None}] * len(self.names)
        return [
            plots.Curve(
                row["class"],
                place,
                row["precision"],
                row["ap50"],
                row["objects"],
                point=None if None in (at["recall"], at["precision"]) else (at["recall"], at["precision"]),
            )
            for place, (row, at) in enumerate(zip(metrics["per_class"], chosen, strict=True))
            if row["precision"] is not None
        ]

    def _sheet(self) -> bytes | None:
        """Objects and answer side by side, of the images with the most missed objects and wrong boxes."""
        from handlens.drawing import with_boxes_on_tile
        from handlens.evaluation.detection import is_expected, match_boxes

        mistakes = []
        for place, (record, boxes) in enumerate(zip(self.records, self.predicted, strict=True)):
            taken = boxes.above(self.threshold or 0.0)
            matched = match_boxes(taken, record.label or ())
            missed = sum(
                score == 0 and is_expected(box) for score, box in zip(matched.found, record.label or (), strict=True)
            )
            mistakes.append((missed + int((matched.counts & ~matched.right).sum()), -place, taken))
        shown = [
            (count, self.records[-place], taken)
            for count, place, taken in sorted(mistakes, key=lambda entry: entry[:2], reverse=True)[:PAIRS]
            if count
        ]

        def pair(record: Record, answer: Boxes) -> NDArray[np.uint8]:
            image, truth = decode(record.path), record.label or ()
            corners = np.array([[box.left, box.top, box.right, box.bottom] for box in truth])
            labels = [box.label for box in truth]
            names, side = [self.names[label] for label in labels], (PAIR_WIDTH - PAIR_GAP) // 2
            there, found = with_boxes_on_tile(image, corners, labels, names, side=side), answer.on_tile(image, side)
            gap = np.full((len(there), PAIR_GAP, 3), 255, dtype=np.uint8)
            return np.concatenate([there, gap, found], axis=1)

        captions = [f"{record.path.name}: {count} {'error' if count == 1 else 'errors'}" for count, record, _ in shown]
        images = (pair(record, taken) for _, record, taken in shown)  # one at a time: they have their full size
        sizes = [(answer.height, answer.width) for _, _, answer in shown]
        return jpeg_bytes(sheet_of_pairs(images, captions, sizes)) if shown else None
