"""Fine-tuning and training from scratch with Lightning, stoppable anywhere, for every task."""

from __future__ import annotations

import contextlib
import copy
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar
from torch import nn

from handlens.data.examples import Examples
from handlens.data.labels.finding import counted
from handlens.data.loaders import ResumableLoader, fastest_workers, loading_seconds, most_workers
from handlens.data.record import Record
from handlens.errors import InputError
from handlens.machine import cores
from handlens.models.loading import NOT_TENSORS
from handlens.reading.files import check_file
from handlens.reporter import errors_alone
from handlens.training.module import TaskTraining
from handlens.training.norms import EpochStatistics
from handlens.training.optim import keep_freed_memory
from handlens.training.recipe import Recipe
from handlens.training.run import LAST, read_metrics
from handlens.training.tensorboard import Events, Samples
from handlens.training.writer import InterruptedTraining, RunWriter


@dataclass(frozen=True)
class Learning:
    """What a task is trained on and how.

    Attributes:
        examples: (records, whether they are trained on) -> what the net is fed.
        training: (net, steps in all) -> the LightningModule.
    """

    examples: Callable[[Sequence[Record], bool], Examples]
    training: Callable[[nn.Module, int], TaskTraining]


@dataclass(frozen=True)
class Estimate:
    """What training will cost, measured on copies, so that nothing about the run changes.

    Attributes:
        batch_seconds: from the files of a batch to what was learned from it.
    """

    batch_seconds: float
    workers: int
    total_seconds: float


def fit(
    net: nn.Module,
    *,
    folder: Path,
    recipe: Recipe,
    learning: Learning,
    training: Sequence[Record],
    validation: Sequence[Record],
    start_score: tuple[float, float],
    callbacks: Sequence[pl.Callback],
    samples: Samples,
    shown: Callable[[float], str],
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> tuple[float, float]:
    """Train `net` until the recipe's last epoch, from the folder's last checkpoint where there is one.

    Args:
        start_score: (metric, -loss) on validation that the net came with; it stays the best unless beaten.
        callbacks: the caller's; before ours, so that what is saved has their state of the same step.
        samples: draws what a net predicts while it is trained, for TensorBoard.
        shown: the metric as people read it.
        say: takes sentences for people. progress: takes (what, done, total).

    Returns:
        The best (metric, -loss) on validation; its weights are in the folder's checkpoints/best.safetensors.

    Raises:
        InterruptedTraining: Ctrl-C or SIGTERM; everything is saved.
        KeyboardInterrupt: asked again before it had saved.
    """
    keep_freed_memory()
    net.train()  # Lightning leaves the mode as it finds it, and features are computed in eval mode
    net.to(memory_format=torch.channels_last)

    def loader(records: Sequence[Record], *, train: bool, workers: int) -> ResumableLoader:
        return ResumableLoader(
            learning.examples(records, train),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            shuffle=train,
            workers=workers,
        )

    precision = autocast_precision(recipe.precision)
    last = folder / LAST
    if last.is_file():
        _require_whole(last)
    done = sum(row["epoch"] != "0" for row in read_metrics(folder)) if last.is_file() else 0
    left = counted(recipe.epochs - done, "epoch" if not done else "further epoch")
    estimate = estimate_cost(
        net,
        recipe=recipe,
        learning=learning,
        precision=precision,
        make_loader=lambda workers: loader(training, train=True, workers=workers),
        images=(len(training), len(validation)),
        epochs=recipe.epochs - done,
    )
    say(
        f"Estimated time: {_minutes(estimate.total_seconds)} for {left} "
        f"({_rate(recipe.batch_size / estimate.batch_seconds)} images/s, {precision}, "
        f"{counted(estimate.workers, 'loader process')})."
    )
    batches = loader(training, train=True, workers=estimate.workers)
    module = learning.training(net, recipe.epochs * len(batches))
    events = Events(folder / "tensorboard", samples=samples if recipe.tensorboard == "full" else None, say=say)
    writer = RunWriter(
        folder,
        recipe=recipe,
        loader=batches,
        best=start_score,
        events=events,
        shown=shown,
        say=say,
        progress=progress,
    )
    # Its log tells of devices that it did not find, and advertises.
    with errors_alone("lightning.pytorch"), warnings.catch_warnings():
        # Advice that does not apply: our loader resumes, and its number of workers was measured.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*found .* module.* in eval mode.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="lightning")
        warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            min_epochs=0,
            accelerator="auto",
            devices=1,
            precision=precision,
            callbacks=[*callbacks, EpochStatistics(), *events.callbacks(), writer],
            logger=False,
            default_root_dir=folder / "callbacks",
            enable_checkpointing=True,  # by the writer, and what the caller adds
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        with writer.listening(), contextlib.closing(batches):
            try:
                trainer.fit(
                    module,
                    batches,
                    loader(validation, train=False, workers=0),
                    ckpt_path=last if last.is_file() else None,
                    weights_only=True,
                )
            except SystemExit:  # what Lightning makes of Ctrl-C when it is pressed again
                raise KeyboardInterrupt from None
    if writer.interrupted:
        raise InterruptedTraining
    return writer.best


def estimate_cost(
    net: nn.Module,
    *,
    recipe: Recipe,
    learning: Learning,
    precision: Any,
    make_loader: Callable[[int], ResumableLoader],
    images: tuple[int, int],
    epochs: int,
) -> Estimate:
    """Time a batch and three steps of a copy of the net; weights, statistics and random state stay as they are.

    Args:
        images: to train on, and to validate. epochs: still to come.
    """
    state = torch.random.get_rng_state()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trial = learning.training(copy.deepcopy(net).train(), 1).to(device)
    loader = make_loader(0)
    loaded = next(iter(loader))
    batch = trial.transfer_batch_to_device(loaded, device, 0)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision != "32-true"):
            loss = trial.loss(batch)
        loss.backward()
        trial.zero_grad()
        times.append(time.perf_counter() - begin)
    step, (load, load_again) = min(times[1:]), loading_seconds(loader)
    workers = recipe.workers
    if workers is None:
        choices = [0, 1, *range(2, max(2, cores()))]
        choices = [count for count in choices if count <= most_workers(loaded)]
        workers = fastest_workers(load_seconds=load, step_seconds=step, choices=choices)
    torch.random.set_rng_state(state)
    training, validation = (count / recipe.batch_size for count in images)  # in batches

    def batch_seconds(load: float) -> float:
        return max(step, load / workers) if workers else step + load

    def epoch_seconds(load: float) -> float:
        return training * batch_seconds(load) + validation * (step / 3 + load)  # forward alone is about a third

    total = epoch_seconds(load) + (epochs - 1) * epoch_seconds(load_again) if epochs > 0 else 0.0
    return Estimate(batch_seconds(load_again), workers, total)


def _require_whole(checkpoint: Path) -> None:
    """
    Raises:
        InputError: it is damaged.
    """
    try:
        state = torch.load(check_file(checkpoint, "weights"), map_location="cpu", weights_only=True)
    except NOT_TENSORS:
        state = None
    if not isinstance(state, dict) or "state_dict" not in state:
        raise InputError(f"{checkpoint} is damaged: restore it from a copy, or remove it to train from the beginning.")


def autocast_precision(wanted: str) -> Any:
    """Lightning's name of what to compute in: bf16 where the processor does, else float32.

    From random weights the gradient of one batch in bf16 is hardly that in float32, but the trained nets are as good
    (benchmarks/training_precision.py).
    """
    if wanted == "fp32":
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    capable = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return "bf16-mixed" if capable else "32-true"


def _rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _minutes(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
