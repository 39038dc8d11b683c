"""Training a classifier: cross-entropy on soft targets, chosen by accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.data.record import Dataset, Record
from handlens.preprocess import Preprocess
from handlens.tasks.classify.mixing import cutmix, mixup
from handlens.tasks.image_level import image_examples
from handlens.training.fit import Learning
from handlens.training.head import balanced_weights
from handlens.training.module import TaskTraining
from handlens.training.recipe import Recipe


class ClassifierTraining(TaskTraining):
    """Batches are images (N, C, H, W) uint8 and targets (N,) class indices."""

    metric = train_metric = "top1"

    def __init__(
        self,
        net: nn.Module,
        *,
        recipe: Recipe,
        preprocess: Preprocess,
        total_steps: int,
        num_classes: int,
        class_weights: Tensor | None,
    ) -> None:
        super().__init__(net, recipe=recipe, preprocess=preprocess, total_steps=total_steps)
        self.num_classes = num_classes
        self.class_weights = class_weights
        self.reset_validation()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        mixing = self._mixing()
        images = self.normalized(batch[0])
        targets = batch[1] if self.recipe.loss and not mixing else self.soft_targets(batch[1])
        for mix, alpha in mixing:
            images, targets = mix(images, targets, alpha=alpha, key=(self.recipe.seed, mix.__name__, self.global_step))
        answers = self._answers(images)
        loss = torch.stack([weight * self.criterion(logits, targets) for weight, logits in answers]).sum()
        logits = answers[0][1]
        self.count(self.train_counts, loss, logits, batch[1])
        return loss

    def _answers(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """(weight of its loss, logits): of the net, and of the heads that it has for learning only."""
        if len(getattr(self.net, "auxiliary", ())):
            answers: list[tuple[float, Tensor]] = self.net.with_auxiliary(images)  # type: ignore[operator]
            return answers
        return [(1.0, self.net(images))]

    def soft_targets(self, labels: Tensor) -> Tensor:
        """What a batch says of its images -> (N, K) shares, which mixing can mix."""
        return F.one_hot(labels, self.num_classes).float()

    def criterion(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.recipe.loss:
            return self.own_loss(logits, targets)
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return F.cross_entropy(logits, targets, weight=weights, label_smoothing=self.recipe.label_smoothing)

    def count(self, counts: list[float], loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Accumulate by images, so that a smaller last batch weighs what it should."""
        counts[0] += float(loss.detach()) * len(labels)
        counts[1] += int((logits.argmax(dim=1) == labels).sum())
        counts[2] += len(labels)

    def _mixing(self) -> list[tuple[Any, float]]:
        """What is done to this step's batch: at most one of them."""
        wanted = [
            (mix, alpha)
            for mix, alpha in ((mixup, self.recipe.augment.mixup), (cutmix, self.recipe.augment.cutmix))
            if alpha
        ]
        return wanted[self.global_step % len(wanted) :][:1] if wanted else []

    def reset_validation(self) -> None:
        self.validation_counts = [0.0, 0.0, 0.0]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self.net(self.normalized(batch[0]))
        measure = self.own_loss if self.recipe.loss else F.cross_entropy
        self.count(self.validation_counts, measure(logits, batch[1]), logits, batch[1])

    def validation_result(self) -> tuple[float, float]:
        loss, right, count = self.validation_counts
        return right / count, loss / count


def learning(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
    """What a classifier is fed, and how it learns."""
    classes = len(dataset.class_names)
    weights = None
    if recipe.class_weights == "balanced":
        targets = np.array([record.label for record in dataset.part("train")], dtype=np.int64)
        weights = balanced_weights(targets, classes)
    return Learning(
        image_examples(recipe, preprocess, class_of),
        lambda net, steps: ClassifierTraining(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, num_classes=classes, class_weights=weights
        ),
    )


def class_of(record: Record) -> int:
    """
    Raises:
        ValueError: the record has no label.
    """
    if record.label is None:
        raise ValueError(f"{record.id} has no label")
    return record.label
