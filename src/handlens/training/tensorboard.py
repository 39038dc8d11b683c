"""What a training shows in TensorBoard: scalars always; with `tensorboard: full` also what takes time and room."""

from __future__ import annotations

import contextlib
import copy
import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from handlens.training.module import TaskTraining

Samples = Callable[[nn.Module], NDArray[np.uint8]]  # a net in training -> (H, W, 3): a sheet of its predictions
OWN = "user/"  # before the names that callbacks of the caller's own have logged


class Events:
    """The event files of one training, which a resumed one goes on with.

    Args:
        samples: None leaves out all but scalars.
    """

    def __init__(self, folder: Path, *, samples: Samples | None, say: Callable[[str], None]) -> None:
        self._folder, self._samples, self._say = folder, samples, say
        self._writer: Any = None
        self._last: dict[str, float] = {}
        self._validation: set[str] = set()
        self._clock = StepClock()

    def begin(self, trainer: pl.Trainer, module: TaskTraining) -> None:
        """A step that was written before an interruption, and is done again, stands there once."""
        self._validation = {"validation_loss", f"validation_{module.metric}"}
        self._writer = SummaryWriter(str(self._folder), purge_step=trainer.global_step + 1)
        self._clock.begin()
        if self._samples is not None and trainer.global_step == 0:
            self._writer.add_text("recipe", _as_code(module.recipe.to_yaml()), 0)
            self._add_graph(module)

    def step(self, trainer: pl.Trainer, loss: float) -> None:
        """After a step of the optimizer."""
        step = trainer.global_step
        self._writer.add_scalar("train/loss", loss, step)
        self._add_own(trainer)
        if self._samples is not None:
            for part, seconds in self._clock.parts().items():
                self._writer.add_scalar(f"seconds/{part}", seconds, step)

    def epoch(self, trainer: pl.Trainer, module: TaskTraining, row: dict[str, Any]) -> None:
        """After the validation of an epoch.

        Args:
            row: of metrics.csv.
        """
        step = trainer.global_step
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(f"epoch/{name}", value, step)
        self._add_own(trainer)
        if self._samples is not None:
            for name, parameter in module.net.named_parameters():
                self._writer.add_histogram(f"weights/{name}", parameter.detach().float().cpu(), step)
            for name, gradient in self._clock.gradients.items():
                if (whole := gradient[gradient.isfinite()]).numel():  # float16 overflows, which its scaling mends
                    self._writer.add_histogram(f"gradients/{name}", whole, step)
            net = copy.deepcopy(module.net)
            if module.averaged is not None:  # which validation measures, and the run keeps
                net.load_state_dict(module.averaged)
            self._writer.add_image("predictions", self._samples(net), step, dataformats="HWC")
        self._writer.flush()

    def _add_own(self, trainer: pl.Trainer) -> None:
        """What callbacks have logged since the last time; of validation, metrics.csv has it."""
        for name, value in trainer.callback_metrics.items():
            number = float(value)
            if name not in self._validation and self._last.get(name) != number:
                self._last[name] = number
                self._writer.add_scalar(f"{OWN}{name}", number, trainer.global_step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def callbacks(self) -> list[pl.Callback]:
        """That Lightning has to call for it."""
        return [] if self._samples is None else [self._clock]

    def _add_graph(self, module: TaskTraining) -> None:
        """Tracing runs the net once: a copy in eval mode, and of a net that cannot be traced the rest is written."""
        net = copy.deepcopy(module.net).cpu().eval()
        example = torch.zeros(1, *module.input_shape)
        state = torch.random.get_rng_state()
        try:
            # On standard output it says what it then raises.
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                self._writer.add_graph(net, example, use_strict_trace=False)
        except Exception as error:  # whatever the code of a model of one's own raises
            self._say(f"The graph is not in TensorBoard: the model cannot be traced ({type(error).__name__}).")
        finally:
            torch.random.set_rng_state(state)


class StepClock(pl.Callback):
    """Seconds of the parts of a step, and the gradients of an epoch's last one.

    On a GPU, work goes on after a part has returned: a part then waits for that of the one before.
    """

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}
        self.begin()

    def begin(self) -> None:
        self._at = time.perf_counter()
        self._parts: dict[str, float] = {}

    def parts(self) -> dict[str, float]:
        """Of the step that ends here."""
        self._lap("optimizer")
        found, self._parts = self._parts, {}
        return found

    def _lap(self, part: str) -> None:
        now = time.perf_counter()
        self._parts[part] = self._parts.get(part, 0.0) + now - self._at
        self._at = now

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._lap("loading")

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        self._lap("forward")

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TaskTraining)
        self._lap("backward")
        if trainer.is_last_batch:
            self.gradients = {
                name: parameter.grad.detach().float().cpu().clone()
                for name, parameter in pl_module.net.named_parameters()
                if parameter.grad is not None
            }

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._at = time.perf_counter()


def _as_code(text: str) -> str:
    """Markdown that shows it as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
