"""Training a detector: the loss of losses/boxes.py, chosen by mAP at IoU 0.5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from handlens.data.examples import Examples
from handlens.data.labels.boxes import Box
from handlens.data.own_transform import OwnTransform
from handlens.data.record import Dataset, Record
from handlens.evaluation.detection import evaluate_coco
from handlens.preprocess import Preprocess
from handlens.results import Boxes
from handlens.tasks.detect.augment import detection_augment
from handlens.tasks.detect.examples import BoxedImages
from handlens.training.fit import Learning
from handlens.training.module import TaskTraining
from handlens.training.recipe import Recipe

Batch = tuple[Tensor, list[Tensor], list[Tensor]]


class DetectorTraining(TaskTraining):
    """Batches are images (N, C, H, W) uint8, boxes, a list of (n, 4) fractions, and labels, a list of (n,).

    The mAP of validation is that of the standard evaluator on images of the net's size; `evaluate` measures at
    the images' own.
    """

    metric = "map50"
    train_metric = "class_loss"

    def __init__(
        self, net: nn.Module, *, recipe: Recipe, preprocess: Preprocess, total_steps: int, class_names: Sequence[str]
    ) -> None:
        super().__init__(net, recipe=recipe, preprocess=preprocess, total_steps=total_steps)
        self.class_names = tuple(class_names)
        self.size = preprocess.height, preprocess.width
        self.reset_validation()

    def loss(self, batch: Batch) -> Tensor:
        located, classified = self._losses(self.net(self.normalized(batch[0])), batch)
        loss = located + classified
        self.train_counts[0] += float(loss.detach()) * len(batch[0])
        self.train_counts[1] += float(classified.detach()) * len(batch[0])
        self.train_counts[2] += len(batch[0])
        return loss

    def reset_validation(self) -> None:
        self.predicted: list[Boxes] = []
        self.truths: list[list[Box]] = []
        self.validation_loss = [0.0, 0.0]  # summed loss, images

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        raw = self.net(self.normalized(batch[0]))
        self.validation_loss[0] += float(sum(self._losses(raw, batch))) * len(batch[0])
        self.validation_loss[1] += len(batch[0])
        height, width = self.size
        scale = torch.tensor([width, height, width, height])
        decoded = [part.cpu() for part in self.net.decode(raw)]  # type: ignore[operator]
        for boxes, scores, labels in zip(*decoded, strict=True):
            self.predicted.append(
                Boxes.clipped(
                    np.asarray(boxes * scale),
                    labels.numpy(),
                    scores.numpy(),
                    self.class_names,
                    height=height,
                    width=width,
                )
            )
        for boxes, labels in zip(batch[1], batch[2], strict=True):
            corners = (boxes.cpu() * scale).tolist()
            self.truths.append(
                [
                    Box(
                        label=label if label >= 0 else -1 - label, left=x0, top=y0, right=x1, bottom=y1, crowd=label < 0
                    )
                    for (x0, y0, x1, y1), label in zip(corners, labels.tolist(), strict=True)
                ]
            )

    def validation_result(self) -> tuple[float, float]:
        stats = evaluate_coco(self.predicted, self.truths, len(self.class_names))["stats"]
        return max(0.0, float(stats[1])), self.validation_loss[0] / self.validation_loss[1]

    def _losses(self, raw: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        targets = list(zip(batch[1], batch[2], strict=True))
        if self.recipe.loss:
            loss = self.own_loss(raw, targets)
            return torch.zeros_like(loss), loss
        located, classified = self.net.loss(raw, targets, classes=self.recipe.box_loss)  # type: ignore[operator]
        return located, classified


def learning(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
    """What a detector is fed, and how it learns."""
    augment = recipe.augment

    def examples(records: Sequence[Record], train: bool) -> Examples:
        transform = detection_augment(
            preprocess,
            flip=augment.flip,
            crop_area=augment.crop_area,
            color=augment.color,
            zoom_out=augment.zoom_out,
            vertical_flip=augment.vertical_flip,
        )
        if recipe.transform:
            transform = OwnTransform(recipe.transform, preprocess).boxed
        return BoxedImages(
            records,
            preprocess=preprocess,
            transform=transform if train else None,
            mosaic=augment.mosaic,
            seed=recipe.seed,
        )

    return Learning(
        examples,
        lambda net, steps: DetectorTraining(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, class_names=dataset.class_names
        ),
    )
