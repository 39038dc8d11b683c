"""Training a model that gives numbers, on targets scaled to variance one, chosen by R2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.data.record import Dataset, Record
from handlens.evaluation.regression import mean_r2
from handlens.preprocess import Preprocess
from handlens.tasks.image_level import image_examples
from handlens.tasks.regress.scale import TargetScale
from handlens.training.fit import Learning
from handlens.training.module import TaskTraining
from handlens.training.recipe import Recipe

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss, "huber": F.huber_loss}


class RegressorTraining(TaskTraining):
    """Batches are images (N, C, H, W) uint8 and targets (N, V) float32, scaled."""

    metric = "r2"
    train_metric = "error"  # mean absolute, in standard deviations

    def __init__(self, net: nn.Module, *, recipe: Recipe, preprocess: Preprocess, total_steps: int) -> None:
        super().__init__(net, recipe=recipe, preprocess=preprocess, total_steps=total_steps)
        self.reset_validation()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        answers = self._answers(self.normalized(batch[0]))
        measure = self.own_loss if self.recipe.loss else LOSSES[self.recipe.number_loss]
        loss = torch.stack([weight * measure(values.float(), batch[1]) for weight, values in answers]).sum()
        self.train_counts[0] += float(loss.detach()) * len(batch[0])
        self.train_counts[1] += float(F.l1_loss(answers[0][1].detach().float(), batch[1])) * len(batch[0])
        self.train_counts[2] += len(batch[0])
        return loss

    def reset_validation(self) -> None:
        self.predicted: list[Tensor] = []
        self.truth: list[Tensor] = []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.predicted.append(self.net(self.normalized(batch[0])).float().cpu())
        self.truth.append(batch[1].cpu())

    def validation_result(self) -> tuple[float, float]:
        predicted, truth = torch.cat(self.predicted), torch.cat(self.truth)
        if not predicted.isfinite().all():  # the run is lost, and says so where the loss is looked at
            return float("-inf"), float("nan")
        share = mean_r2(predicted.numpy(), truth.numpy())
        return 0.0 if share is None else share, float(
            (self.own_loss if self.recipe.loss else F.mse_loss)(predicted, truth)
        )

    def _answers(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """(weight of its loss, values): of the model, and of the heads that it has for learning only."""
        if len(getattr(self.net, "auxiliary", ())):
            answers: list[tuple[float, Tensor]] = self.net.with_auxiliary(images)  # type: ignore[operator]
            return answers
        return [(1.0, self.net(images))]


def learning(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
    """What the model is fed, and how it learns."""
    scale = TargetScale.of(dataset.part("train"))
    return Learning(
        image_examples(recipe, preprocess, partial(scaled_target, scale=scale)),
        lambda net, steps: RegressorTraining(net, recipe=recipe, preprocess=preprocess, total_steps=steps),
    )


def scaled_target(record: Record, *, scale: TargetScale) -> Tensor:
    """(V,) float32."""
    return torch.from_numpy(scale.scaled([record])[0])


def give_units(net: Any, scale: TargetScale) -> None:
    """Let the last layer give numbers in the labels' unit instead of scaled ones."""
    mean, std = torch.from_numpy(scale.mean), torch.from_numpy(scale.std)
    with torch.no_grad():
        layer = net.classifier
        weight, bias = layer.weight.double(), layer.bias.double()
        layer.weight.copy_(weight * std[:, None])
        layer.bias.copy_(bias * std + mean)
