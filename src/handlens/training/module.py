"""What every task's training has in common: normalizing, the optimizer, the averaged weights, seeded steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from handlens.data.seeds import seed_for, seed_torch
from handlens.errors import InputError
from handlens.preprocess import Preprocess
from handlens.runtimes.graph import Scale
from handlens.training.optim import DECAYS, make_optimizer, parameter_groups, rate_factor
from handlens.training.parts import name_of
from handlens.training.recipe import Recipe
from handlens.training.saving import require_finite


@dataclass
class Plateau:
    """How often the rate was reduced because validation did not improve any more.

    Attributes:
        patience: epochs without improvement before it is reduced.
        waited: of these so far.
    """

    patience: int
    reductions: int = 0
    waited: int = 0

    def count(self, better: bool) -> None:
        """After an epoch."""
        self.waited = 0 if better else self.waited + 1
        if self.waited >= self.patience:
            self.reductions, self.waited = self.reductions + 1, 0


class TaskTraining(pl.LightningModule):
    """The net, its loss and its optimizer. A task derives from it and says what a batch is.

    Everything random within a step is seeded by (seed, step): a resumed run draws what an unbroken one would have
    drawn.

    Attributes:
        metric: what the best epoch is chosen by, in [0, 1], more is better: "top1", "miou", "map50".
        train_metric: what is cheap to count while training.
    """

    metric: str
    train_metric: str

    def __init__(self, net: nn.Module, *, recipe: Recipe, preprocess: Preprocess, total_steps: int) -> None:
        super().__init__()
        self.net = net
        self.recipe = recipe
        self.total_steps = total_steps
        self.scale = Scale(preprocess)
        self.input_shape = (preprocess.channels, preprocess.height, preprocess.width)
        self.plateau = Plateau(recipe.plateau_epochs)
        self.loss_module = (
            recipe.loss if isinstance(recipe.loss, nn.Module) else None
        )  # goes to the device with the net
        self.averaged: dict[str, Tensor] | None = None
        if recipe.ema:
            self.averaged = {name: value.detach().clone() for name, value in net.state_dict().items()}
        self.train_counts = [
            0.0,
            0.0,
            0.0,
        ]  # of this epoch so far: loss and train metric, summed over images (or pixels), and their number
        self._live: dict[str, Tensor] | None = None

    def loss(self, batch: Any) -> Tensor:
        """The loss of a training batch, counted in `train_counts`."""
        raise NotImplementedError

    def own_loss(self, outputs: Any, targets: Any) -> Tensor:
        """The caller's own loss, of the recipe.

        Raises:
            InputError: it is not one number.
        """
        loss = self.recipe.loss(outputs.float() if isinstance(outputs, Tensor) else outputs, targets)
        if not isinstance(loss, Tensor) or loss.ndim:
            given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(
                f"{name_of(self.recipe.loss)} must give one number as a tensor without dimensions, got {given}."
            )
        return loss

    def reset_validation(self) -> None:
        raise NotImplementedError

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        raise NotImplementedError

    def validation_result(self) -> tuple[float, float]:
        """(metric, mean loss) over the validation images."""
        raise NotImplementedError

    def normalized(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> float32, channels last."""
        scaled: Tensor = self.scale(images.permute(0, 2, 3, 1))
        return scaled.contiguous(memory_format=torch.channels_last)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed_torch(seed_for(self.recipe.seed, "step", self.global_step))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        require_finite(float(loss.detach()), f"the training loss of epoch {self.current_epoch + 1}")
        return loss

    def update_average(self) -> None:
        """Move the averaged weights towards the new ones. RunWriter calls it before it saves anything."""
        if self.averaged is None:
            return
        decay = min(self.recipe.ema, (1 + self.global_step) / (10 + self.global_step))  # short runs average less
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                if value.is_floating_point():
                    self.averaged[name].lerp_(value, 1 - decay)
                else:
                    self.averaged[name].copy_(value)

    def on_fit_start(self) -> None:
        if self.averaged is not None:  # made, or read from a checkpoint, on the CPU
            self.averaged = {name: value.to(self.device) for name, value in self.averaged.items()}

    def on_validation_start(self) -> None:
        self.reset_validation()
        if self.averaged is not None:
            self._live = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
            self.net.load_state_dict(self.averaged)

    def restore_live(self) -> None:
        """Put the trained weights back after the averaged ones were validated."""
        if self._live is not None:
            self.net.load_state_dict(self._live)
            self._live = None

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        groups = parameter_groups(
            self.net,
            learning_rate=recipe.learning_rate,
            layer_decay=recipe.layer_decay,
            weight_decay=recipe.weight_decay,
        )
        optimizer = make_optimizer(recipe.optimizer, groups, momentum=recipe.momentum)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: rate_factor(
                step,
                total=self.total_steps,
                warmup=recipe.warmup,
                schedule=recipe.schedule,
                decay=DECAYS.get(recipe.schedule, 1.0) if recipe.decay is None else recipe.decay,
                epochs=recipe.epochs,
                reductions=self.plateau.reductions,
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def count_plateau(self, better: bool) -> None:
        """After an epoch; a reduction holds from the next step on."""
        before = self.plateau.reductions
        self.plateau.count(better)
        if self.recipe.schedule == "plateau" and self.plateau.reductions > before:
            schedule: Any = self.lr_schedulers()
            rates = [
                base * factor(schedule.last_epoch)
                for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            ]
            for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_counts"] = list(self.train_counts)
        checkpoint["averaged"] = self.averaged
        checkpoint["plateau"] = [self.plateau.reductions, self.plateau.waited]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_counts = list(checkpoint["train_counts"])
        self.averaged = checkpoint["averaged"]
        self.plateau.reductions, self.plateau.waited = checkpoint.get("plateau", (0, 0))  # of an earlier version
