"""What is collected of each test image while it streams by, and what comes of it: one collector per task."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from handlens.data.annotations import usable_boxes
from handlens.data.decode import decode
from handlens.data.masks import read_mask
from handlens.data.record import IGNORE, MaskCoding, Record, tag_targets
from handlens.errors import InputError
from handlens.evaluation import plots
from handlens.evaluation.contact_sheet import contact_sheet, jpeg_bytes
from handlens.files import write_bytes
from handlens.results import Boxes, Classes, Mask, Tags
from handlens.training.run import Run, read_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLES = 24
PAIRS = 12  # of truth and answer
PAIR_WIDTH = 480  # pixels of the two together
LEGEND = 40  # classes; of more, nobody tells the colors apart


class Measure(Protocol):
    """Takes every image once and then says how good the answers were.

    Attributes:
        kept: the metrics that model.json keeps.
        records: of the images taken so far.
    """

    kept: tuple[str, ...]
    records: list[Record]

    def add(self, record: Record, result: Any) -> None: ...

    def metrics(self) -> dict[str, Any]:
        """Ready for JSON."""
        ...

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        """The page for people; `parts` as `evaluate.report.write_report` takes them."""
        ...


def measure_for(run: Run, coding: MaskCoding | None) -> Measure:
    if run.task == "classify":
        return ClassMeasure(run)
    if run.task == "tag":
        return TagMeasure(run)
    if run.task == "detect":
        return BoxMeasure(run)
    assert coding is not None
    return MaskMeasure(run, coding)


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
            title=run.folder.resolve().name,
            model=run.model,
            metrics=metrics,
            images={
                "curves": _curves(run),
                "confusion": confusion,
                "reliability": plots.reliability_plot(metrics["calibration"]["bins"]),
            },
            examples={kind: self._sheet(order[kind][:EXAMPLES]) for kind in ("wrong", "right")},
            **parts,
        )

    def _labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return np.array([record.target for record in self.records], dtype=np.int64)

    def _sheet(self, entries: Sequence[dict[str, Any]]) -> bytes | None:
        if not entries:
            return None
        paths = {record.id: record.path for record in self.records}
        captions = [
            f"{self.names[entry['predicted']]} {100 * entry['confidence']:.0f} %"
            + ("" if entry["predicted"] == entry["label"] else f"\nis {self.names[entry['label']]}")
            for entry in entries
        ]
        images = [decode(paths[entry["id"]], at_least=(160, 160)) for entry in entries]
        return jpeg_bytes(
            contact_sheet(images, captions, wrong=[entry["predicted"] != entry["label"] for entry in entries])
        )


class TagMeasure:
    """Probabilities and labels of every image, which may have several."""

    kept: tuple[str, ...] = ("map", "exact", "f1", "macro_f1", "loss", "count")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.thresholds: list[float] = run.model["thresholds"]
        self.rows: list[NDArray[np.float32]] = []
        self.records: list[Record] = []

    def add(self, record: Record, result: Tags) -> None:
        self.rows.append(result.probabilities)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluation.tags import tag_metrics

        return tag_metrics(np.stack(self.rows), self._truth(), self.names, self.thresholds)

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
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
            drawn = plots.precision_recall_plot(curves, found="images with it", answered="answers", ap="AP")
        write_report(
            path,
            title=run.folder.resolve().name,
            model=run.model,
            metrics=metrics,
            images={"curves": _curves(run), "precision_recall": drawn},
            examples={"wrong": self._sheet()},
            **parts,
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
            "\n".join(named(place, "+", answered & ~truth) + named(place, "-", truth & ~answered)) for place in shown
        ]
        images = (decode(self.records[place].path, at_least=(160, 160)) for place in shown)
        return jpeg_bytes(contact_sheet(images, captions))


class BoxMeasure:
    """Boxes down to the smallest score, and the objects, of every image."""

    kept: tuple[str, ...] = ("map", "map50", "images", "objects")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.threshold: float | None = run.model.get("threshold")
        self.predicted: list[Boxes] = []
        self.records: list[Record] = []  # with the boxes that count

    def add(self, record: Record, result: Boxes) -> None:
        self.predicted.append(result)
        self.records.append(replace(record, boxes=usable_boxes(record, size=(result.width, result.height))))

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluation.detection import detection_metrics

        truths = [record.boxes or () for record in self.records]
        return detection_metrics(self.predicted, truths, self.names, threshold=self.threshold)

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        from handlens.evaluation.report import write_report

        curves = self._precision_recall(metrics)
        write_report(
            path,
            title=run.folder.resolve().name,
            model=run.model,
            metrics=metrics,
            images={
                "curves": _curves(run),
                "precision_recall": plots.precision_recall_plot(curves) if curves else None,
            },
            examples={"wrong": self._sheet()},
            **parts,
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
        from handlens.drawing import with_boxes
        from handlens.evaluation.detection import is_expected, match_boxes

        mistakes = []
        for place, (record, boxes) in enumerate(zip(self.records, self.predicted, strict=True)):
            taken = boxes.above(self.threshold or 0.0)
            matched = match_boxes(taken, record.boxes or ())
            missed = sum(
                score == 0 and is_expected(box) for score, box in zip(matched.found, record.boxes or (), strict=True)
            )
            mistakes.append((missed + int((matched.counts & ~matched.right).sum()), -place, taken))
        shown = [
            (count, self.records[-place], taken)
            for count, place, taken in sorted(mistakes, key=lambda entry: entry[:2], reverse=True)[:PAIRS]
            if count
        ]

        def pair(record: Record, answer: Boxes) -> NDArray[np.uint8]:
            image, truth = decode(record.path), record.boxes or ()
            corners = np.array([[box.left, box.top, box.right, box.bottom] for box in truth])
            labels = [box.label for box in truth]
            there = with_boxes(image, corners, labels, [self.names[label] for label in labels])
            return np.concatenate([there, answer.draw(image)], axis=1)

        captions = [
            f"{record.path.name}: {count} {'mistake' if count == 1 else 'mistakes'}" for count, record, _ in shown
        ]
        images = (pair(record, taken) for _, record, taken in shown)  # one at a time: they have their full size
        sizes = [(answer.height, answer.width) for _, _, answer in shown]
        return jpeg_bytes(_sheet_of_pairs(images, captions, sizes)) if shown else None


class MaskMeasure:
    """Counts over pixels, at the size of the images."""

    kept: tuple[str, ...] = ("miou", "pixel_accuracy", "images")

    def __init__(self, run: Run, coding: MaskCoding) -> None:
        from handlens.evaluation.segmentation import PixelCounts

        self.coding = coding
        self.names = run.class_names
        self.counts = PixelCounts(run.class_names)
        self.records: list[Record] = []
        self.least_right: list[tuple[float, int, Mask]] = []  # (-share of right pixels, place, answer): a heap

    def add(self, record: Record, result: Mask) -> None:
        assert record.mask is not None
        height, width = result.classes.shape
        truth = read_mask(record.mask, self.coding, size=(height, width))
        self.counts.add(result.classes, truth)
        known = truth != IGNORE
        if known.any():
            right = float((result.classes == truth)[known].mean())
            heapq.heappush(self.least_right, (-right, len(self.records), result))
            if len(self.least_right) > PAIRS:
                heapq.heappop(self.least_right)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        try:
            return self.counts.metrics()
        except ValueError as error:
            raise InputError(f"there is nothing to measure: {error}.") from None

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        from handlens.evaluation.report import write_report

        confusion = b""
        if metrics["confusion"]:
            confusion = plots.confusion_plot(np.array(metrics["confusion"]), self.names)
            write_bytes(path.with_name("confusion.png"), confusion)
        write_report(
            path,
            title=run.folder.resolve().name,
            model=run.model,
            metrics=metrics,
            images={"curves": _curves(run), "confusion": confusion},
            examples={"wrong": self._sheet()},
            **parts,
        )

    def _sheet(self) -> bytes | None:
        """Truth and answer side by side, the least right images first."""
        from handlens.drawing import with_legend, with_mask

        shown = [
            (-100 * negative, self.records[place], answer.classes)
            for negative, place, answer in sorted(self.least_right, key=lambda entry: entry[:2], reverse=True)
        ]
        if not shown:
            return None

        def pair(record: Record, answer: NDArray[np.uint8]) -> NDArray[np.uint8]:
            assert record.mask is not None
            image = decode(record.path)
            truth = read_mask(record.mask, self.coding, size=(answer.shape[0], answer.shape[1]))
            return np.concatenate([with_mask(image, mask, self.names) for mask in (truth, answer)], axis=1)

        captions = [f"{record.path.name}: {right:.1f} % right" for right, record, _ in shown]
        images = (pair(record, answer) for _, record, answer in shown)  # one at a time: they have their full size
        sheet = _sheet_of_pairs(images, captions, [answer.shape for _, _, answer in shown])
        return jpeg_bytes(with_legend(sheet, dict(enumerate(self.names[:LEGEND]))))


def _sheet_of_pairs(
    images: Iterable[NDArray[np.uint8]], captions: Sequence[str], sizes: Sequence[tuple[int, ...]]
) -> NDArray[np.uint8]:
    """Two pairs beside each other; rows as high as the highest pair needs.

    Args:
        sizes: (height, width) of each image.
    """
    height = min(PAIR_WIDTH, max(round(PAIR_WIDTH * height / (2 * width)) for height, width in sizes))
    return contact_sheet(images, captions, columns=2, tile=PAIR_WIDTH, tile_height=max(height, 1))


def _curves(run: Run) -> bytes | None:
    rows = read_metrics(run.folder)
    return plots.curves(rows) if len(rows) > 1 else None
