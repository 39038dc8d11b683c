"""What is collected of each test picture while it streams by, and what comes of it: one collector per task."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from handlens.data.decode import decode
from handlens.data.masks import read_mask
from handlens.data.record import MaskCoding, Record
from handlens.evaluate import pictures
from handlens.files import write_bytes
from handlens.results import Boxes, Classes, Mask
from handlens.train.run import Run, read_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLES = 24


class Measure(Protocol):
    """Takes every picture once and then says how good the answers were.

    Attributes:
        kept: the metrics that model.json keeps.
        records: of the pictures taken so far.
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
    if run.task == "detect":
        return BoxMeasure(run)
    assert coding is not None
    return MaskMeasure(run, coding)


class ClassMeasure:
    """Probabilities and labels of every picture."""

    kept: tuple[str, ...] = ("top1", "top5", "loss", "count")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.rows: list[NDArray[np.float32]] = []
        self.records: list[Record] = []

    def add(self, record: Record, result: Classes) -> None:
        self.rows.append(result.probabilities)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluate.metrics import classification_metrics

        return classification_metrics(np.stack(self.rows), self._labels(), self.names)

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        from handlens.evaluate.errors import ranked
        from handlens.evaluate.report import write_report

        confusion = b""
        if metrics["confusion"]:
            confusion = pictures.confusion_picture(np.array(metrics["confusion"]), self.names)
            write_bytes(path.with_name("confusion.png"), confusion)
        order = ranked(np.stack(self.rows), self._labels(), [record.id for record in self.records])
        rows = read_metrics(run.folder)
        write_report(
            path, title=run.folder.resolve().name, model=run.model, metrics=metrics,
            curves=pictures.curves(rows) if len(rows) > 1 else None, confusion=confusion,
            reliability=pictures.reliability_picture(metrics["calibration"]["bins"]),
            examples={kind: self._sheet(order[kind][:EXAMPLES]) for kind in ("wrong", "right")}, **parts,
        )  # fmt: skip

    def _labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return np.array([record.target for record in self.records], dtype=np.int64)

    def _sheet(self, entries: Sequence[dict[str, Any]]) -> bytes | None:
        if not entries:
            return None
        paths = {record.id: record.path for record in self.records}
        captions = [
            f"{self.names[entry['predicted']]} {100 * entry['confidence']:.0f} %"
            + ("" if entry["predicted"] == entry["label"] else f" (is {self.names[entry['label']]})")
            for entry in entries
        ]
        images = [decode(paths[entry["id"]], at_least=(160, 160)) for entry in entries]
        return _jpeg(pictures.contact_sheet(
            images, captions, wrong=[entry["predicted"] != entry["label"] for entry in entries]
        ))  # fmt: skip


class BoxMeasure:
    """Boxes down to the smallest score, and the objects, of every picture."""

    kept: tuple[str, ...] = ("map", "map50", "pictures", "objects")

    def __init__(self, run: Run) -> None:
        self.names = run.class_names
        self.threshold = run.model.get("threshold")
        self.predicted: list[Boxes] = []
        self.records: list[Record] = []

    def add(self, record: Record, result: Boxes) -> None:
        self.predicted.append(result)
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        from handlens.evaluate.detection import detection_metrics

        truths: Sequence[Any] = [record.boxes or () for record in self.records]
        return detection_metrics(self.predicted, truths, self.names, threshold=self.threshold)

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        """A page is still to be made; evaluation.json has everything."""


class MaskMeasure:
    """Counts over pixels, at the size of the pictures."""

    kept: tuple[str, ...] = ("miou", "pixel_accuracy", "pictures")

    def __init__(self, run: Run, coding: MaskCoding) -> None:
        from handlens.evaluate.segmentation import PixelCounts

        self.coding = coding
        self.counts = PixelCounts(run.class_names)
        self.records: list[Record] = []

    def add(self, record: Record, result: Mask) -> None:
        assert record.mask is not None
        height, width = result.classes.shape
        self.counts.add(result.classes, read_mask(record.mask, self.coding, size=(height, width)))
        self.records.append(record)

    def metrics(self) -> dict[str, Any]:
        return self.counts.metrics()

    def write_report(self, path: Path, run: Run, *, metrics: dict[str, Any], **parts: Any) -> None:
        """A page is still to be made; evaluation.json has everything."""


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=85)
    return out.getvalue()
