"""Objects and their boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from handlens.data.record import Dataset, Record
from handlens.errors import InputError
from handlens.figures import percent
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.results import Boxes
from handlens.runtimes.agreement import ROUNDED, Agreement
from handlens.runtimes.names import BOXES, LABELS, SCORES
from handlens.tasks.detect.sinks import coco_file, yolo_folder
from handlens.tasks.pieces import EXPLAINED, ForApps, Found, Headline, Labeled, Measure, OfClass, Reason, Start, Tile
from handlens.tasks.sinks import Sink
from handlens.tasks.task import Task
from handlens.tasks.tiles import TILE, caption_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from handlens.data.check import Audit
    from handlens.runtimes.engine import Arrays
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run

APART = 5e-3  # of a score or a side, a fraction of the image, in an app: what one IoU of SAME_BOX allows
USUAL_THRESHOLD = 0.3  # where no box is right on validation, so that none is better than another; our choice


class Detect(Task):
    name = "detect"
    models = name
    metric = "map50"
    metric_title = "mAP50"
    of_class = OfClass("AP50")
    outputs = (BOXES, SCORES, LABELS)
    result = Boxes
    compared = "boxes"
    differs = "scores"
    heat_method: ClassVar[str] = "layercam"  # Grad-CAM's weights are of whole maps: it warms what is far from a box
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "ssdlite_mobilenet_v2_coco",
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "layer_decay": 1.0,
        "ema": 0.98,
    }
    uses = frozenset({"anchors", "box_loss", "augment.zoom_out", "augment.mosaic"})
    published_classes = 80  # of COCO
    evaluated_at = 0.0  # every box counts in a precision-recall curve
    has_threshold = True
    resize = "stretch"

    def sinks(self, run: Run) -> dict[str, Callable[[Path], Sink]]:
        return {"yolo": yolo_folder, "coco": partial(coco_file, category_ids=run.model.chosen.get("category_ids"))}

    def thresholds(self, chosen: Mapping[str, Any]) -> tuple[float, ...]:
        return (float(chosen.get("threshold", 0.0)),)

    def answer(
        self,
        arrays: Arrays,
        height: int,
        width: int,
        *,
        preprocess: Preprocess,
        names: tuple[str, ...],
        thresholds: Sequence[float],
    ) -> Boxes:
        """Boxes of lower scores than the one threshold are left out."""
        size = np.array([preprocess.width, preprocess.height] * 2)
        corners = preprocess.geometry(height, width).restored_boxes(arrays[BOXES] * size)
        return Boxes.clipped(
            corners,
            arrays[LABELS],
            arrays[SCORES],
            names,
            height=height,
            width=width,
            threshold=thresholds[0] if thresholds else 0.0,
        )

    def measure(self, run: Run, kind: Any) -> Measure:
        from handlens.tasks.detect.measure import BoxMeasure

        return BoxMeasure(run)

    def headline(self, result: Mapping[str, Any]) -> Headline:
        metrics, point = result["metrics"], result["metrics"]["operating_point"]
        sentences = [
            f"[bold]mAP50 {percent(metrics['map50'])}[/], mAP {percent(metrics['map'])} on {result['images']} images "
            f"({result['split']}) with {metrics['objects']} objects."
        ]
        if point:
            sentences.append(
                f"At score threshold {point['threshold']:.2f}: precision {percent(point['precision'])}, "
                f"recall {percent(point['recall'])}."
            )
        return Headline.by_class(tuple(sentences), metrics["per_class"], ("objects", "ap", "ap50"))

    def tile(self, record: Record, meaning: Labeled) -> Tile:
        from handlens.data.decode import decode
        from handlens.drawing import with_boxes_on_tile

        boxes, names = record.label or (), meaning.class_names
        corners = np.array([(box.left, box.top, box.right, box.bottom) for box in boxes]).reshape(-1, 4)
        labels = [box.label for box in boxes]
        texts = [names[label] for label in labels]
        drawn = with_boxes_on_tile(decode(record.path), corners, labels, texts, side=TILE)
        if record.label is None:
            return Tile(drawn, "no label")
        counts = Counter(labels)
        caption = caption_of([f"{names[label]} {count}" for label, count in counts.most_common()])
        return Tile(drawn, caption or "no objects", frozenset(counts))

    def compare(
        self, values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]
    ) -> Agreement:
        from handlens.tasks.detect.agreement import compare_boxes

        return compare_boxes(values, expected, ids)

    def changed(self, values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float | None:
        from handlens.tasks.detect.agreement import changed_boxes

        return changed_boxes(values, own, thresholds=thresholds)

    def refusal(self, *, with_resize: bool, suppress: bool) -> str | None:
        return None

    def for_apps(self, chosen: Mapping[str, Any], expected: Arrays, *, exact: bool) -> ForApps:
        from handlens.tasks.detect.agreement import FAINT, LIKELIEST

        (threshold,) = self.thresholds(chosen)
        least = FAINT if exact else max(FAINT, threshold) + ROUNDED
        return ForApps(
            Path(__file__).with_name("answer.py"),
            {
                BOXES: "left, top, right and bottom of each box, fractions of the input; the likeliest box first",
                SCORES: "the score of each box, 0 to 1; 0 is padding",
                LABELS: "the class index of each box",
            },
            {
                "kind": "rows",
                "outputs": list(self.outputs),
                "tolerance": APART if exact else ROUNDED,
                "from": min(least, LIKELIEST * float(expected[SCORES].max(initial=0))),
            },
        )

    def start(self, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        from handlens.tasks.detect.start import start_detector

        return start_detector(recipe, dataset, report)

    def learning(self, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
        from handlens.tasks.detect.training import learning

        return learning(recipe, dataset, preprocess)

    def choose(
        self, net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
    ) -> dict[str, Any]:
        """The threshold with the best F1 on validation, by what the net answers in PyTorch fp32."""
        from handlens.data.labels.boxes import usable_boxes
        from handlens.evaluation.detection import best_threshold
        from handlens.tasks.answers import validation_answers

        predicted, truths = [], []
        for record, result in validation_answers(
            self, net, preprocess, dataset, thresholds=(0.0,), what="choosing the threshold", report=report
        ):
            assert isinstance(result, Boxes)
            predicted.append(result)
            truths.append(usable_boxes(record, size=(result.width, result.height)))
        best = best_threshold(predicted, truths)
        return {"threshold": USUAL_THRESHOLD if best is None else best}

    def chosen(self, values: Mapping[str, Any]) -> str:
        return f"Score threshold {values['threshold']:.3f}, chosen by best F1 on validation."

    def refuses_model(self, net: nn.Module, raw: Any, *, classes: int, height: int, width: int) -> str | None:
        lacking = [name for name in ("loss", "decode") if not callable(getattr(net, name, None))]
        return f"it has no method {' and no method '.join(lacking)} as models.detect.ssd.SSD has" if lacking else None

    def last_step(self, net: nn.Module, raw: Any, *, suppress: bool = True) -> tuple[Tensor, ...]:
        boxes, scores, labels = net.decode(raw, suppress=suppress)  # type: ignore[operator]
        return boxes, scores, labels

    def reasons(
        self, net: nn.Module, raw: Any, *, names: Sequence[str], thresholds: Sequence[float], wanted: int | None
    ) -> list[Reason]:
        """Each box above the threshold, likeliest first: the logit of its class at the anchor that it came from."""
        from handlens.losses.coding import decode_boxes

        boxes, scores, labels = (part[0] for part in net.decode(raw))  # type: ignore[operator]
        shown = scores >= thresholds[0]
        if wanted is not None:
            shown &= labels == wanted
        every = decode_boxes(raw.offsets.float(), raw.anchors)[0].clamp(0, 1)  # (A, 4)
        found = []
        for box, score, label in list(zip(boxes[shown], scores[shown], labels[shown], strict=True))[:EXPLAINED]:
            index, apart = int(label), (every - box).abs().sum(dim=1)
            # Of anchors whose boxes are clipped to the same, the likeliest is the one that was kept.
            anchor = int((raw.logits[0, :, index] - 1e6 * (apart > apart.min() + 1e-6)).argmax())
            found.append(
                Reason(
                    f"{names[index]} {100 * float(score):.1f} %",
                    _logit_of(anchor, index),
                    box=tuple(box.tolist()),
                )
            )
        return found

    def published(self) -> dict[str, Any]:
        from handlens.weights.class_names import COCO_IDS

        return {"threshold": USUAL_THRESHOLD, "category_ids": list(COCO_IDS)}

    def examine(self, audit: Audit, report: Reporter) -> Found | None:
        """Class name -> share of its training boxes that no anchor of the default detector, fitted to them, reaches."""
        from importlib.util import find_spec

        if find_spec("torch") is None:
            return None
        from handlens.data.split import split_dataset
        from handlens.tasks.detect.fit import fit_detector
        from handlens.training.recipe_file import make_recipe

        report.progress("fitting anchors", 0, None)
        recipe = make_recipe({})
        try:
            dataset = split_dataset(
                audit.usable(), validation=recipe.validation, seed=recipe.seed, together=audit.duplicates
            )
            unreached = fit_detector(recipe.settled("finetune", self.defaults), dataset).unreached
        except InputError:  # the audit has said already that there is no box to learn from
            return None
        named = [f"{name} {percent(share)}" for name, share in unreached.items() if share]
        sentence = f"Training boxes that match no anchor of the default detector: {', '.join(named) or 'none'}."
        return Found({"boxes_without_anchor": unreached}, sentence)


def _logit_of(anchor: int, index: int) -> Callable[[Any], Tensor]:
    """The score of a box: the logit of its class at its anchor."""
    return lambda raw: raw.logits[:, anchor, index]
