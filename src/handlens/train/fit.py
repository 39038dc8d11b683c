"""Fine-tuning and training from scratch with Lightning, stoppable anywhere."""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from handlens.data.augment import classification_augment, smallest_training_decode
from handlens.data.loaders import Pictures, ResumableLoader, fastest_workers
from handlens.data.record import Record
from handlens.models.blocks import freeze_batch_norm
from handlens.preprocess import Preprocess
from handlens.train.classify import ClassifierTraining, InterruptedTraining, RunWriter
from handlens.train.head import balanced_weights
from handlens.train.optim import keep_freed_memory
from handlens.train.recipe import Recipe
from handlens.train.run import LAST


@dataclass(frozen=True)
class Estimate:
    """What training will cost, measured on copies, so that nothing about the run changes."""

    step_seconds: float
    workers: int
    total_seconds: float


def fit(
    net: nn.Module,
    *,
    folder: Path,
    recipe: Recipe,
    preprocess: Preprocess,
    num_classes: int,
    training: Sequence[Record],
    validation: Sequence[Record],
    start_score: tuple[float, float],
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> tuple[float, float]:
    """Train `net` until the recipe's last epoch, from the folder's last checkpoint where there is one.

    Args:
        start_score: (top1, -loss) on validation that the net came with; it stays the best unless beaten.
        say: takes sentences for people. progress: takes (what, done, total).

    Returns:
        The best (top1, -loss) on validation; its weights are in the folder's checkpoints/best.safetensors.

    Raises:
        InterruptedTraining: Ctrl-C or SIGTERM; everything is saved.
    """
    keep_freed_memory()
    net.train()  # Lightning leaves the mode as it finds it, and features are computed in eval mode
    if recipe.freeze_batch_norm:
        freeze_batch_norm(net)
    net.to(memory_format=torch.channels_last)
    class_weights = None
    if recipe.class_weights == "balanced":
        class_weights = balanced_weights(np.array([record.target for record in training]), num_classes)

    def loader(records: Sequence[Record], *, train: bool, workers: int) -> ResumableLoader:
        augment = recipe.augment
        transform = classification_augment(
            preprocess, flip=augment.flip, crop_area=augment.crop_area, colour=augment.colour
        )
        at_least = smallest_training_decode(preprocess, crop_area=augment.crop_area)
        return ResumableLoader(
            Pictures(
                records,
                preprocess=preprocess,
                transform=transform if train else None,
                at_least=at_least if train else preprocess.smallest_decode(),
                seed=recipe.seed,
            ),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            shuffle=train,
            workers=workers,
        )

    precision = autocast_precision(recipe.precision)
    estimate = estimate_cost(
        net, recipe=recipe, preprocess=preprocess, num_classes=num_classes, precision=precision,
        make_loader=lambda workers: loader(training, train=True, workers=workers),
        pictures=(len(training), len(validation)),
    )  # fmt: skip
    say(
        f"Estimated time: {_minutes(estimate.total_seconds)} for {recipe.epochs} epochs "
        f"({recipe.batch_size / estimate.step_seconds:.0f} pictures/s, {precision}, {estimate.workers} loaders)."
    )
    batches = loader(training, train=True, workers=estimate.workers)
    module = ClassifierTraining(
        net, recipe=recipe, preprocess=preprocess, num_classes=num_classes,
        total_steps=recipe.epochs * len(batches), class_weights=class_weights,
    )  # fmt: skip
    writer = RunWriter(folder, recipe=recipe, loader=batches, best=start_score, say=say, progress=progress)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # devices it did not find, and advertising
    with warnings.catch_warnings():
        # Advice that does not apply: our loader resumes, and its number of workers was measured.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*found .* module.* in eval mode.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="lightning")
        warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
        trainer = pl.Trainer(
            max_epochs=recipe.epochs, min_epochs=0, accelerator="auto", devices=1, precision=precision,
            callbacks=[writer], logger=False, enable_checkpointing=False, enable_model_summary=False,
            enable_progress_bar=False, num_sanity_val_steps=0, use_distributed_sampler=False,
        )  # fmt: skip
        last = folder / LAST
        with writer.listening():
            trainer.fit(
                module, batches, loader(validation, train=False, workers=0),
                ckpt_path=last if last.is_file() else None, weights_only=True,
            )  # fmt: skip
    if writer.interrupted:
        raise InterruptedTraining
    return writer.best


def estimate_cost(
    net: nn.Module,
    *,
    recipe: Recipe,
    preprocess: Preprocess,
    num_classes: int,
    precision: Any,
    make_loader: Callable[[int], ResumableLoader],
    pictures: tuple[int, int],
) -> Estimate:
    """Time three steps of a copy of the net; weights, statistics and random state stay as they are."""
    state = torch.random.get_rng_state()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trial = copy.deepcopy(net).to(device).train()
    size = recipe.batch_size, preprocess.channels, preprocess.height, preprocess.width
    images = torch.rand(size, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(recipe.batch_size, dtype=torch.long, device=device)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision != "32-true"):
            loss = F.cross_entropy(trial(images), targets)
        loss.backward()
        trial.zero_grad()
        times.append(time.perf_counter() - begin)
    step = min(times[1:])
    cores = os.cpu_count() or 1
    workers = recipe.workers
    if workers is None:
        choices = [0, 1, *range(2, max(2, cores))]
        workers = fastest_workers(make_loader, step_seconds=step, choices=choices)
    torch.random.set_rng_state(state)
    training, validation = pictures
    steps = training / recipe.batch_size + validation / recipe.batch_size / 3  # forward alone is about a third
    return Estimate(step, workers, recipe.epochs * steps * step)


def autocast_precision(wanted: str) -> Any:
    """Lightning's name of what to compute in: bf16 where the processor does, else float32."""
    if wanted == "fp32":
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    capable = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return "bf16-mixed" if capable else "32-true"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
