"""Training a segmenter: cross-entropy or focal loss per pixel, with Dice beside it, chosen by mIoU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from handlens.data.examples import Examples
from handlens.data.labels.masks import MaskLabels
from handlens.data.own_transform import OwnTransform
from handlens.data.record import Dataset, Record
from handlens.losses.pixel import cross_entropy, dice, focal
from handlens.palette import IGNORE
from handlens.preprocess import Preprocess
from handlens.tasks.segment.augment import segmentation_augment
from handlens.tasks.segment.examples import MaskedImages
from handlens.training.fit import Learning
from handlens.training.module import TaskTraining
from handlens.training.recipe import Recipe


class SegmenterTraining(TaskTraining):
    """Batches are images (N, C, H, W) uint8 and masks (N, H, W) uint8, class indices or IGNORE.

    The mIoU of validation is counted over pixels at the net's size; `evaluate` counts at the images' own.
    """

    metric = "miou"
    train_metric = "pixel_accuracy"

    def __init__(
        self,
        net: nn.Module,
        *,
        recipe: Recipe,
        preprocess: Preprocess,
        total_steps: int,
        num_classes: int,
    ) -> None:
        super().__init__(net, recipe=recipe, preprocess=preprocess, total_steps=total_steps)
        self.num_classes = num_classes
        self.reset_validation()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        targets = batch[1].long()
        logits = self.net(self.normalized(batch[0]))
        loss = self.own_loss(logits, targets) if self.recipe.loss else self._pixel_loss(logits, targets)
        known = targets != IGNORE
        pixels = int(known.sum())
        self.train_counts[0] += float(loss.detach()) * pixels
        self.train_counts[1] += int(((logits.argmax(dim=1) == targets) & known).sum())
        self.train_counts[2] += pixels
        return loss

    def _pixel_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.recipe.pixel_loss == "focal":
            loss = focal(logits, targets)
        else:
            loss = cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
        return loss + self.recipe.dice * dice(logits, targets) if self.recipe.dice else loss

    def reset_validation(self) -> None:
        self.confusion = torch.zeros(self.num_classes, self.num_classes, dtype=torch.long)  # rows are the truth
        self.validation_loss = [0.0, 0.0]  # summed loss, pixels

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        targets = batch[1].long()
        logits = self.net(self.normalized(batch[0]))
        known = targets != IGNORE
        pairs = targets[known] * self.num_classes + logits.argmax(dim=1)[known]
        self.confusion += pairs.bincount(minlength=self.num_classes**2).view(self.num_classes, -1).cpu()
        self.validation_loss[0] += float((self.own_loss if self.recipe.loss else cross_entropy)(logits, targets)) * int(
            known.sum()
        )
        self.validation_loss[1] += int(known.sum())

    def validation_result(self) -> tuple[float, float]:
        hit = self.confusion.diagonal()
        union = self.confusion.sum(dim=0) + self.confusion.sum(dim=1) - hit
        there = union > 0
        miou = float((hit[there] / union[there]).mean()) if there.any() else 0.0
        return miou, self.validation_loss[0] / max(self.validation_loss[1], 1)


def learning(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
    """What a segmenter is fed, and how it learns."""
    augment = recipe.augment
    kind = dataset.kind
    assert isinstance(kind, MaskLabels)

    def examples(records: Sequence[Record], train: bool) -> Examples:
        transform = segmentation_augment(
            preprocess,
            flip=augment.flip,
            crop_area=augment.crop_area,
            color=augment.color,
            zoom_out=augment.zoom_out,
            vertical_flip=augment.vertical_flip,
        )
        if recipe.transform:
            transform = OwnTransform(recipe.transform, preprocess).masked
        return MaskedImages(
            records, preprocess=preprocess, transform=transform if train else None, kind=kind, seed=recipe.seed
        )

    return Learning(
        examples,
        lambda net, steps: SegmenterTraining(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, num_classes=len(dataset.class_names)
        ),
    )
