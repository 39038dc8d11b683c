"""Training a classifier of images that may have several labels: binary cross-entropy, chosen by mAP."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from handlens.data.labels.tags import tag_targets
from handlens.data.record import Dataset, Record
from handlens.evaluation.tags import mean_average_precision
from handlens.preprocess import Preprocess
from handlens.tasks.classify.training import ClassifierTraining
from handlens.tasks.image_level import image_examples
from handlens.training.fit import Learning
from handlens.training.head import balanced_tag_weights
from handlens.training.recipe import Recipe


class TaggerTraining(ClassifierTraining):
    """Batches are images (N, C, H, W) uint8 and targets (N, K) float32, 1 where an image has the label.

    `class_weights` weigh what speaks for a class, as `pos_weight` of torch's loss.
    """

    metric = "map"
    train_metric = "labels_right"

    def soft_targets(self, labels: Tensor) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return labels * (1 - smoothing) + smoothing / 2

    def criterion(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.recipe.loss:
            return self.own_loss(logits.float(), targets)
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return F.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=weights)

    def count(self, counts: list[float], loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        counts[0] += float(loss.detach()) * len(labels)
        counts[1] += float(((logits > 0) == (labels > 0.5)).float().mean()) * len(labels)
        counts[2] += len(labels)

    def reset_validation(self) -> None:
        super().reset_validation()
        self.answered: list[Tensor] = []
        self.labeled: list[Tensor] = []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self.net(self.normalized(batch[0])).float()
        measure = self.own_loss if self.recipe.loss else F.binary_cross_entropy_with_logits
        loss = measure(logits, batch[1])
        self.count(self.validation_counts, loss, logits, batch[1])
        self.answered.append(logits.sigmoid().cpu())
        self.labeled.append(batch[1].cpu())

    def validation_result(self) -> tuple[float, float]:
        loss, _, count = self.validation_counts
        probabilities, labels = torch.cat(self.answered).numpy(), torch.cat(self.labeled).numpy()
        if not np.isfinite(probabilities).all():  # the run is lost, and says so where the loss is looked at
            return 0.0, float("nan")
        return mean_average_precision(probabilities, labels > 0.5), loss / count


def learning(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
    """What a multi-label classifier is fed, and how it learns."""
    classes = len(dataset.class_names)
    weights = None
    if recipe.class_weights == "balanced":
        weights = balanced_tag_weights(tag_targets(dataset.part("train"), classes))
    return Learning(
        image_examples(recipe, preprocess, partial(tags_of, num_classes=classes)),
        lambda net, steps: TaggerTraining(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, num_classes=classes, class_weights=weights
        ),
    )


def tags_of(record: Record, *, num_classes: int) -> Tensor:
    """(K,) float32, 1 where the image has the label."""
    return torch.from_numpy(tag_targets([record], num_classes)[0])
