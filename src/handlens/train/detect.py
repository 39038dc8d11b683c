"""Training a detector: the loss of losses/boxes.py, chosen by mAP at IoU 0.5."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from handlens.evaluate.detection import mean_average_precision_50
from handlens.losses.boxes import criterion
from handlens.preprocess import Preprocess
from handlens.train.recipe import Recipe
from handlens.train.task import TaskTraining

Batch = tuple[Tensor, list[Tensor], list[Tensor]]


class DetectorTraining(TaskTraining):
    """Batches are images (N, C, H, W) uint8, boxes, a list of (n, 4) fractions, and labels, a list of (n,)."""

    metric = "map50"
    train_metric = "matched"

    def __init__(
        self, net: nn.Module, *, recipe: Recipe, preprocess: Preprocess, total_steps: int, num_classes: int
    ) -> None:
        super().__init__(net, recipe=recipe, preprocess=preprocess, total_steps=total_steps)
        self.num_classes = num_classes
        self.reset_validation()

    def loss(self, batch: Batch) -> Tensor:
        images, boxes, labels = batch
        loss = criterion(self.net, self.normalised(images), list(zip(boxes, labels, strict=True)))
        self.train_counts[0] += float(loss.detach()) * len(images)
        self.train_counts[2] += len(images)
        return loss

    def reset_validation(self) -> None:
        self.found: list[Any] = []
        self.truth: list[Any] = []
        self.validation_loss = [0.0, 0.0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, boxes, labels = batch
        raw = self.net(self.normalised(images))
        decoded = self.net.decode(raw)
        self.found += [tuple(part.cpu() for part in one) for one in zip(*decoded, strict=True)]
        self.truth += list(zip(boxes, labels, strict=True))

    def validation_result(self) -> tuple[float, float]:
        return mean_average_precision_50(self.found, self.truth, self.num_classes), 0.0
