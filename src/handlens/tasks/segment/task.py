"""A class per pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from handlens.data.record import Dataset, Record
from handlens.drawing import BACKGROUND
from handlens.figures import percent
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.results import Mask
from handlens.runtimes.agreement import ROUNDED, Agreement
from handlens.runtimes.names import CLASS_MAP
from handlens.tasks.pieces import EXPLAINED, ForApps, Headline, Labeled, Measure, OfClass, Reason, Start, Tile
from handlens.tasks.segment.sinks import mask_folder
from handlens.tasks.segment.windows import tiled_classes
from handlens.tasks.sinks import Sink
from handlens.tasks.task import Task, other_shape
from handlens.tasks.tiles import TILE, caption_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from handlens.runtimes.engine import Arrays, Engine
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run


class Segment(Task):
    name = "segment"
    models = name
    metric = "miou"
    metric_title = "mean IoU"
    of_class = OfClass("IoU")
    outputs = (CLASS_MAP,)
    result = Mask
    compared = "pixels"
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "deeplab_v3_mobilenet_v2_voc",
        "epochs": 30,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "layer_decay": 1.0,
        "ema": 0.98,
        "dice": 1.0,
    }
    uses = frozenset({"pixel_loss", "dice", "label_smoothing", "augment.zoom_out"})
    published_classes = 21  # of VOC, with its background
    has_windows = True
    resize = "pad"

    def sinks(self, run: Run) -> dict[str, Callable[[Path], Sink]]:
        return {"masks": mask_folder}

    def answer(
        self,
        arrays: Arrays,
        height: int,
        width: int,
        *,
        preprocess: Preprocess,
        names: tuple[str, ...],
        thresholds: Sequence[float],
    ) -> Mask:
        return Mask(preprocess.restored(arrays[CLASS_MAP], height, width), names)

    def in_windows(
        self, image: NDArray[np.uint8], engine: Engine, *, preprocess: Preprocess, names: tuple[str, ...]
    ) -> Mask:
        """Each window votes for the classes it sees, its middle more than its edge."""
        votes = np.eye(len(names), dtype=np.float32)
        whole = replace(preprocess, resize="stretch")  # a window has the net's size; its colors may change

        def predict(window: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(votes[engine.run(whole.pixels(window)[None])[CLASS_MAP][0]])

        return Mask(tiled_classes(image, predict, height=preprocess.height, width=preprocess.width), names)

    def measure(self, run: Run, kind: Any) -> Measure:
        from handlens.tasks.segment.measure import MaskMeasure

        return MaskMeasure(run, kind)

    def headline(self, result: Mapping[str, Any]) -> Headline:
        metrics = result["metrics"]
        sentence = (
            f"[bold]Mean IoU {percent(metrics['miou'])}[/] on {result['images']} images ({result['split']}); "
            f"pixel accuracy {percent(metrics['pixel_accuracy'])}; boundary IoU "
            f"{percent(metrics['boundary_iou'])}; majority class baseline: "
            f"{percent(metrics['majority_baseline']['share'])} pixel accuracy."
        )
        return Headline.by_class(
            (sentence,), metrics["per_class"], ("share", "recall", "precision", "boundary_iou", "iou")
        )

    def tile(self, record: Record, meaning: Labeled) -> Tile:
        from PIL import Image

        from handlens.data.decode import decode
        from handlens.data.labels.masks import MaskLabels
        from handlens.drawing import fitted, with_mask

        decoded = decode(record.path)
        small = fitted(decoded, TILE)
        if record.label is None:
            return Tile(small, "no label")
        assert isinstance(meaning.kind, MaskLabels)
        mask = meaning.kind.read(record.label, size=(decoded.shape[0], decoded.shape[1]))
        names = meaning.class_names
        counts = np.bincount(mask.ravel(), minlength=256)[: len(names)]
        drawn = with_mask(small, fitted(mask, TILE, Image.Resampling.NEAREST), names)
        largest = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
        caption = caption_of([f"{names[index]} {100 * counts[index] / mask.size:.0f} %" for index in largest])
        return Tile(drawn, caption or "only ignored pixels", frozenset(int(index) for index in np.flatnonzero(counts)))

    def compare(
        self, values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]
    ) -> Agreement:
        from handlens.tasks.segment.agreement import compare_masks

        return compare_masks(values, expected, ids)

    def changed(self, values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float | None:
        from handlens.tasks.segment.agreement import changed_masks

        return changed_masks(values, own)

    def refusal(self, *, with_resize: bool, suppress: bool) -> str | None:
        if with_resize:
            return "--with-resize is not available for segmentation: the mask has the model's input size"
        return super().refusal(with_resize=with_resize, suppress=suppress)

    def for_apps(self, chosen: Mapping[str, Any], expected: Arrays, *, exact: bool) -> ForApps:
        from handlens.tasks.segment.agreement import IMAGE_EQUAL

        return ForApps(
            Path(__file__).with_name("answer.py"),
            {CLASS_MAP: "the class index of each pixel of the input, row by row"},
            {"kind": "equal", "output": CLASS_MAP, "share": IMAGE_EQUAL if exact else 1 - ROUNDED},
        )

    def start(self, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        from handlens.tasks.segment.start import start_segmenter

        return start_segmenter(recipe, dataset, report)

    def learning(self, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
        from handlens.tasks.segment.training import learning

        return learning(recipe, dataset, preprocess)

    def refuses_model(self, net: nn.Module, raw: Any, *, classes: int, height: int, width: int) -> str | None:
        return other_shape(raw, (2, classes, height, width), "logits (N, classes, height, width)")

    def last_step(self, net: nn.Module, raw: Tensor, *, suppress: bool = True) -> Tensor:
        import torch

        return raw.argmax(dim=1).to(torch.uint8)

    def reasons(
        self, net: nn.Module, raw: Tensor, *, names: Sequence[str], thresholds: Sequence[float], wanted: int | None
    ) -> list[Reason]:
        """Each class but the background, largest area first: the mean of its logit over the pixels it was given."""
        areas = raw.argmax(dim=1)[0]  # (H, W)
        counts = areas.flatten().bincount(minlength=len(names)).tolist()
        order = sorted(range(len(names)), key=lambda index: -counts[index])
        found = [index for index in order if counts[index] and names[index] != BACKGROUND][:EXPLAINED]
        if wanted is not None:
            found = [wanted] if counts[wanted] else []
        return [
            Reason(
                f"{names[index]} {100 * counts[index] / areas.numel():.1f} % of the pixels",
                _mean_over(areas == index, index),
            )
            for index in found
        ]


def _mean_over(area: Tensor, index: int) -> Callable[[Any], Tensor]:
    """The score of a class: the mean of its logit over (H, W) bool."""
    return lambda raw: raw[:, index, area].mean(dim=1)
