"""Training a classifier: the LightningModule and its callbacks."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.data.augment import mixup
from handlens.data.loaders import ResumableLoader
from handlens.data.seeds import seed_for
from handlens.deploy.graph import Scale
from handlens.files import atomic_path
from handlens.preprocess import Preprocess
from handlens.train.optim import parameter_groups, warmup_cosine
from handlens.train.recipe import Recipe
from handlens.train.run import LAST, append_metrics
from handlens.train.saving import save_net

BEST = "checkpoints/best.safetensors"


class InterruptedTraining(Exception):  # noqa: N818 - nothing went wrong
    """Training was asked to stop; everything up to the last whole step is saved."""


class ClassifierTraining(pl.LightningModule):
    """The net, its loss and its optimiser.

    Batches are images (N, C, H, W) uint8 and targets (N,) class indices. Everything random within a step is
    seeded by (seed, step): a resumed run draws what an unbroken one would have drawn.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        recipe: Recipe,
        preprocess: Preprocess,
        num_classes: int,
        total_steps: int,
        class_weights: Tensor | None,
    ) -> None:
        super().__init__()
        self.net = net
        self.recipe = recipe
        self.num_classes = num_classes
        self.total_steps = total_steps
        self.scale = Scale(preprocess)
        self.class_weights = class_weights
        self.averaged: dict[str, Tensor] | None = None
        if recipe.ema:
            self.averaged = {name: value.detach().clone() for name, value in net.state_dict().items()}
        self.train_counts = [0.0, 0, 0]  # summed loss, right answers, pictures, of this epoch so far
        self.validation_counts = [0.0, 0, 0]
        self._live: dict[str, Tensor] | None = None

    def normalised(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> float32, channels last."""
        scaled: Tensor = self.scale(images.permute(0, 2, 3, 1))
        return scaled.contiguous(memory_format=torch.channels_last)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(seed_for(self.recipe.seed, "step", self.global_step))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = self.normalised(batch[0]), F.one_hot(batch[1], self.num_classes).float()
        if self.recipe.augment.mixup:
            key = (self.recipe.seed, "mixup", self.global_step)
            images, targets = mixup(images, targets, alpha=self.recipe.augment.mixup, key=key)
        logits = self.net(images)
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        loss = F.cross_entropy(logits, targets, weight=weights, label_smoothing=self.recipe.label_smoothing)
        _count(self.train_counts, loss, logits, batch[1])
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
        self.validation_counts = [0.0, 0, 0]
        if self.averaged is not None:
            self._live = {name: value.detach().clone() for name, value in self.net.state_dict().items()}
            self.net.load_state_dict(self.averaged)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self.net(self.normalised(batch[0]))
        _count(self.validation_counts, F.cross_entropy(logits, batch[1]), logits, batch[1])

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
        optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, foreach=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: warmup_cosine(step, total=self.total_steps, warmup=recipe.warmup)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_counts"] = list(self.train_counts)
        checkpoint["averaged"] = self.averaged

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_counts = list(checkpoint["train_counts"])
        self.averaged = checkpoint["averaged"]


class RunWriter(pl.Callback):
    """Writes everything a run leaves behind: metrics.csv, TensorBoard events, the best weights, last.ckpt.

    Stops after the step, with everything saved, on Ctrl-C and SIGTERM.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipe: Recipe,
        loader: ResumableLoader,
        best: tuple[float, float],
        say: Callable[[str], None],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.loader = loader
        self.best = best  # (top1, -loss) on validation
        self.best_epoch = 0
        self.stopped = False  # patience is at its end: a resumed run must not go on
        self.say = say
        self.progress = progress
        self.interrupted = False
        self._saved_at = self._began = time.monotonic()
        self._events: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": list(self.best), "best_epoch": self.best_epoch, "stopped": self.stopped,
            "loader": self.loader.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = (state["best"][0], state["best"][1])
        self.best_epoch, self.stopped = state["best_epoch"], state["stopped"]
        # Lightning restores a loader only from checkpoints within an epoch; from one at its end it would silently
        # begin with the first epoch's order again.
        self.loader.load_state_dict(state["loader"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=trainer.global_step + 1)
        self._saved_at = self._began = time.monotonic()
        trainer.should_stop = self.stopped

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM while the block runs; outside the main thread they stay with whoever has them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self._interrupt) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:  # asked twice: at once, and the last save is whole
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ClassifierTraining)
        pl_module.update_average()
        what = f"epoch {trainer.current_epoch + 1} of {self.recipe.epochs}"
        self.progress(what, batch_idx + 1, len(self.loader))
        self._events.add_scalar("train/loss", float(outputs["loss"].detach()), trainer.global_step)
        if batch_idx + 1 >= len(self.loader):
            return  # validation follows, and the epoch's own save after it
        due = time.monotonic() - self._saved_at > self.recipe.checkpoint_seconds
        if due or self.interrupted:
            self.save(trainer)
        if self.interrupted:
            raise InterruptedTraining

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self.progress("validating", batch_idx + 1, int(trainer.num_val_batches[dataloader_idx]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassifierTraining)
        loss, right, count = pl_module.validation_counts
        score = (right / count, -loss / count)
        if score > self.best:
            self.best, self.best_epoch = score, trainer.current_epoch + 1
            save_net(pl_module.net, self.folder / BEST)
        pl_module.restore_live()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassifierTraining)
        train_loss, train_right, train_count = pl_module.train_counts
        loss, right, count = pl_module.validation_counts
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "train_loss": train_loss / train_count,
            "train_top1": train_right / train_count,
            "validation_loss": loss / count,
            "validation_top1": right / count,
            "seconds": round(time.monotonic() - self._began, 1),
        }
        append_metrics(self.folder, row)
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._events.add_scalar(f"epoch/{name}", value, trainer.global_step)
        self._events.flush()
        self.say(
            f"Epoch {row['epoch']}: training {100 * row['train_top1']:.1f} %, "
            f"validation {100 * row['validation_top1']:.1f} %, {row['seconds']:.0f} s."
        )
        pl_module.train_counts = [0.0, 0, 0]
        if self.recipe.patience and trainer.current_epoch + 1 - self.best_epoch >= self.recipe.patience:
            self.stopped = trainer.should_stop = True
        self.save(trainer)
        if self.interrupted:
            raise InterruptedTraining

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()

    def save(self, trainer: pl.Trainer) -> None:
        with atomic_path(self.folder / LAST) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)
        self._saved_at = time.monotonic()


def _count(counts: list[Any], loss: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Accumulate by pictures, so that a smaller last batch weighs what it should."""
    counts[0] += float(loss.detach()) * len(targets)
    counts[1] += int((logits.argmax(dim=1) == targets).sum())
    counts[2] += len(targets)
