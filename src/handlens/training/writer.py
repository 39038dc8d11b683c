"""Writes everything a run leaves behind while it trains, and stops when asked to."""

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
from lightning.pytorch.callbacks import Checkpoint

from handlens.data.loaders import ResumableLoader
from handlens.files import atomic_path
from handlens.training.module import TaskTraining
from handlens.training.recipe import Recipe
from handlens.training.run import BEST, LAST, append_metrics
from handlens.training.saving import require_finite, save_net
from handlens.training.tensorboard import Events

# Ctrl-C; the end of a service or of a cluster's job; a terminal that was closed (Windows has none of the last).
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class InterruptedTraining(Exception):  # noqa: N818 - nothing went wrong
    """Training was asked to stop; everything up to the last whole step is saved."""


class RunWriter(Checkpoint):
    """Writes everything a run leaves behind: metrics.csv, TensorBoard events, the best weights, last.ckpt.

    Stops after the step, with everything saved, on Ctrl-C and SIGTERM. It is a Checkpoint so that Lightning calls it
    after every other callback: what is saved has their state of the same step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipe: Recipe,
        loader: ResumableLoader,
        best: tuple[float, float],
        events: Events,
        shown: Callable[[float], str],
        say: Callable[[str], None],
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.loader = loader
        self.best = best  # (the score of METRICS, -loss) on validation
        self.best_epoch = 0
        self.stopped = False  # before the last epoch: a resumed run must not go on
        self.events = events
        self.shown = shown
        self.say = say
        self.progress = progress
        self.interrupted = False
        self._saved_at = self._began = time.monotonic()
        self._seconds_before = 0.0  # of training, until a resumed run began

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": list(self.best),
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "loader": self.loader.state_dict(),
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = (state["best"][0], state["best"][1])
        self.best_epoch, self.stopped = state["best_epoch"], state["stopped"]
        self._seconds_before = state["seconds"]
        # Lightning restores a loader only from checkpoints within an epoch; from one at its end it would silently
        # begin with the first epoch's order again.
        self.loader.load_state_dict(state["loader"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TaskTraining)
        self.events.begin(trainer, pl_module)
        self._saved_at = self._began = time.monotonic()
        trainer.should_stop = self.stopped
        if threading.current_thread() is threading.main_thread():
            # Lightning has taken SIGTERM meanwhile: it would end a validation without a save, with exit code 0.
            for kind in STOPPING[1:]:
                signal.signal(kind, self._interrupt)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take STOPPING while the block runs; outside the main thread they stay with whoever has them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self._interrupt) for kind in STOPPING}
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
        assert isinstance(pl_module, TaskTraining)
        pl_module.update_average()
        what = f"epoch {trainer.current_epoch + 1} of {self.recipe.epochs}"
        self.progress(what, batch_idx + 1, len(self.loader))
        self.events.step(trainer, float(outputs["loss"].detach()))
        if batch_idx + 1 >= len(self.loader):
            return  # validation follows, and the epoch's own save after it
        due = time.monotonic() - self._saved_at > self.recipe.checkpoint_seconds
        if due or self.interrupted:
            self.save(trainer)
        if self.interrupted:
            raise InterruptedTraining

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.progress("validating", batch_idx + 1, int(trainer.num_val_batches[dataloader_idx]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TaskTraining)
        self._result = pl_module.validation_result()
        metric, loss = self._result
        pl_module.log_dict({f"validation_{pl_module.metric}": metric, "validation_loss": loss})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TaskTraining)
        metric, loss = self._result
        require_finite(loss, f"the validation loss of epoch {trainer.current_epoch + 1}")
        score = (metric, -loss)
        better = self._worth(score) > self._worth(self.best)
        if better:
            self.best, self.best_epoch = score, trainer.current_epoch + 1
            save_net(pl_module.net, self.folder / BEST)
        pl_module.count_plateau(better)
        pl_module.restore_live()

    def _seconds(self) -> float:
        """Of training so far, without what lay between an interruption and its resumption."""
        return self._seconds_before + time.monotonic() - self._began

    def _worth(self, score: tuple[float, float]) -> tuple[float, float]:
        """What is compared of (metric, -loss)."""
        return score if self.recipe.choose_by == "metric" else score[::-1]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TaskTraining)
        train_loss, train_metric, count = pl_module.train_counts
        metric, loss = self._result
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "train_loss": train_loss / count,
            f"train_{pl_module.train_metric}": train_metric / count,
            "validation_loss": loss,
            f"validation_{pl_module.metric}": metric,
            "seconds": round(self._seconds(), 1),
        }
        append_metrics(self.folder, row)
        self.events.epoch(trainer, pl_module, row)
        self.say(
            f"Epoch {row['epoch']}: training loss {row['train_loss']:.3f}, validation loss {loss:.3f}, "
            f"{self.shown(metric)}, {row['seconds']:.0f} s so far."
        )
        pl_module.train_counts = [0.0, 0.0, 0.0]
        if self.recipe.patience and trainer.current_epoch + 1 - self.best_epoch >= self.recipe.patience:
            trainer.should_stop = True
            self.say(
                f"Stopped: no epoch since {self.best_epoch} was better, which is patience: {self.recipe.patience}; "
                f"the weights of epoch {self.best_epoch} are kept."
            )
        self.stopped = trainer.should_stop  # by patience, or by a callback of the caller's own
        self.save(trainer)
        if self.interrupted:
            raise InterruptedTraining

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.events.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.events.close()

    def save(self, trainer: pl.Trainer) -> None:
        with atomic_path(self.folder / LAST) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)
        self._saved_at = time.monotonic()
