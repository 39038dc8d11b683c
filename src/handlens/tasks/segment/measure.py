"""How good a segmenter is: counts over pixels, at the size of the images."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.decode import decode
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Record
from handlens.errors import InputError
from handlens.evaluation import plots
from handlens.evaluation.contact_sheet import jpeg_bytes
from handlens.files import write_bytes
from handlens.palette import IGNORE
from handlens.results import Mask
from handlens.tasks.measuring import PAIRS, curves_of, sheet_of_pairs
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.evaluation.paired import EachImage
    from handlens.evaluation.report import About
    from handlens.tasks.pieces import HeatMaps

LEGEND = 40  # classes; of more, nobody tells the colors apart


class MaskMeasure:
    """Counts over pixels, at the size of the images."""

    kept: tuple[str, ...] = ("miou", "pixel_accuracy", "images")

    def __init__(self, run: Run, kind: MaskLabels) -> None:
        from handlens.evaluation.segmentation import PixelCounts

        self.kind = kind
        self.names = run.class_names
        self.counts = PixelCounts(run.class_names)
        self.records: list[Record] = []
        self.of_images: list[NDArray[np.uint32]] = []  # (3, K) pixels: correct, in the truth, predicted
        self.least_right: list[tuple[float, int, Mask]] = []  # (-share of right pixels, place, answer): a heap

    def add(self, record: Record, result: Mask) -> None:
        assert record.label is not None
        height, width = result.classes.shape
        truth = self.kind.read(record.label, size=(height, width))
        before = self.counts.confusion.copy()
        self.counts.add(result.classes, truth)
        added = self.counts.confusion - before
        self.of_images.append(np.stack([added.diagonal(), added.sum(axis=1), added.sum(axis=0)]).astype(np.uint32))
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
            raise InputError(f"no metric can be computed: {error}.") from None

    def each(self) -> EachImage:
        """The share of its pixels that are right."""
        from handlens.evaluation.paired import EachImage
        from handlens.evaluation.resampling import mean_iou

        counts = np.stack(self.of_images).astype(np.int64)
        correct, known = counts[:, 0].sum(axis=1), counts[:, 1].sum(axis=1)
        shares = np.divide(correct, known, out=np.full(len(known), np.nan), where=known > 0)
        return EachImage(
            shares, shares, "the share of its pixels that are right", False, False, mean_iou(counts), counts.size
        )

    def write_report(
        self, path: Path, run: Run, *, metrics: dict[str, Any], about: About, heat: HeatMaps | None
    ) -> None:
        from handlens.evaluation.report import write_report

        confusion = b""
        if metrics["confusion"]:
            confusion = plots.confusion_plot(np.array(metrics["confusion"]), self.names)
            write_bytes(path.with_name("confusion.png"), confusion)
        write_report(
            path,
            template=Path(__file__).with_name("report.html.jinja"),
            title=run.folder.resolve().name,
            model=run.model.to_dict(),
            metrics=metrics,
            images={"curves": curves_of(run), "confusion": confusion},
            examples={"wrong": self._sheet()},
            about=about,
        )

    def _sheet(self) -> bytes | None:
        """Truth, prediction and where they differ side by side, the least right images first."""
        from handlens.drawing import with_difference, with_legend, with_mask

        shown = [
            (-100 * negative, self.records[place], answer.classes)
            for negative, place, answer in sorted(self.least_right, key=lambda entry: entry[:2], reverse=True)
        ]
        if not shown:
            return None

        def beside(record: Record, answer: NDArray[np.uint8]) -> NDArray[np.uint8]:
            assert record.label is not None
            image = decode(record.path)
            truth = self.kind.read(record.label, size=(answer.shape[0], answer.shape[1]))
            masks = [with_mask(image, mask, self.names) for mask in (truth, answer)]
            return np.concatenate([*masks, with_difference(image, truth, answer)], axis=1)

        captions = [f"{record.path.name}: {right:.1f} % correct" for right, record, _ in shown]
        images = (beside(record, answer) for _, record, answer in shown)  # one at a time: they have their full size
        sheet = sheet_of_pairs(images, captions, [answer.shape for _, _, answer in shown], beside=3)
        return jpeg_bytes(with_legend(sheet, dict(enumerate(self.names[:LEGEND]))))
