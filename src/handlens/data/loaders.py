"""Batches in an order that can be stopped anywhere and continued exactly.

The sampler yields (epoch, index). The order depends on (seed, epoch); the augmentation of an image on
(seed, epoch, index): so a run is the same for any number of workers.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from handlens.data.budget import BUDGET
from handlens.data.examples import Examples, Key, collate
from handlens.data.seeds import seed_for
from handlens.errors import InputError

SHARED = Path("/dev/shm")
AHEAD = 4  # batches that each loader process has ready
PATIENCE = 60  # seconds between being told to end and ending: a step of training, and saving what it learned


class EpochBatches:
    """A batch sampler: lists of (epoch, index), shuffled anew by (seed, epoch), from any batch on."""

    def __init__(self, count: int, *, batch_size: int, seed: int, shuffle: bool) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        """Batches in a whole epoch. No image is left out: the last batch is smaller, and a last image alone joins
        the batch before it, because batch norm cannot learn from one value per channel."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (rest > 1 or (rest == 1 and whole == 0))

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.order(self.epoch)
        for number in range(self.first_batch, len(self)):
            end = self.count if number + 1 == len(self) else (number + 1) * self.batch_size
            yield [(self.epoch, int(index)) for index in order[number * self.batch_size : end]]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(count,) the order of the images in an epoch."""
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(self.count)


class ResumableLoader:
    """A DataLoader that knows how many batches were used, and starts there again.

    Lightning saves `state_dict` into checkpoints; without it a resumed run would silently see the first
    batches of the epoch again.
    """

    def __init__(self, images: Examples, *, batch_size: int, seed: int, shuffle: bool, workers: int) -> None:
        self.images = images
        self.batches = EpochBatches(len(images), batch_size=batch_size, seed=seed, shuffle=shuffle)
        self.loader: DataLoader[Any] = DataLoader(
            images,
            batch_sampler=self.batches,
            num_workers=workers,
            collate_fn=_into_shared_memory if workers else collate,
            worker_init_fn=functools.partial(_begin, workers=workers) if workers else None,
            persistent_workers=workers > 0,
            prefetch_factor=AHEAD if workers else None,
        )
        self._used = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        if self._used == len(self):  # Lightning stops at the length and never reaches the end of the loop below
            self.batches.epoch, self._used = self.batches.epoch + 1, 0
        self.batches.first_batch = self._used
        batches = iter(self.loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except InputError as error:  # of a loader process: torch puts its whole traceback into the sentence
                raise InputError(str(error).strip().splitlines()[-1].partition("Error: ")[2] or str(error)) from None
            self._used += 1
            yield batch

    def close(self) -> None:
        """End the loader processes."""
        iterator: Any = self.loader._iterator
        if iterator is not None:
            iterator._shutdown_workers()
            self.loader._iterator = None

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches used so far; at the end of an epoch, the beginning of the next."""
        if self._used == len(self):
            return {"epoch": self.batches.epoch + 1, "used": 0}
        return {"epoch": self.batches.epoch, "used": self._used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches.epoch, self._used = state["epoch"], state["used"]


def loading_seconds(loader: ResumableLoader) -> tuple[float, float]:
    """What a batch takes to load in this process, and to load again, where small images have been kept: seconds."""
    batch = list(itertools.islice(loader.batches, 2))[-1]
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        collate([loader.images[key] for key in batch])
        taken.append(time.perf_counter() - begin)
    return taken[0], taken[1]


def fastest_workers(*, load_seconds: float, step_seconds: float, choices: Sequence[int]) -> int:
    """The fewest loader processes that keep up with training.

    Args:
        load_seconds, step_seconds: what a batch takes to load in the training process, and to learn from.
        choices: numbers of workers to consider, ascending. 0 decodes in the training process.
    """
    # A worker takes a core from training; it pays where loading costs more than a tenth of the step. Starting
    # it and handing batches over cost too: 20 epochs of LeNet, 25 ms per batch, took 11 s without and 21 s with one.
    if load_seconds < 0.1 * step_seconds or load_seconds + step_seconds < 0.05:
        return choices[0]
    wanted = -(-load_seconds // step_seconds)
    return next((choice for choice in choices if choice >= wanted and choice > 0), choices[-1])


def most_workers(batch: Sequence[Any]) -> int:
    """How many loader processes can hand such batches over in the shared memory that is free; many containers have
    64 MB of it."""
    if not SHARED.is_dir():  # not Linux: the system has no such limit
        return sys.maxsize
    size = sum(part.nbytes for part in tensors(batch))
    return int(0.9 * shutil.disk_usage(SHARED).free // (size * (AHEAD + 1)))


def tensors(batch: Any) -> Iterator[torch.Tensor]:
    """Those of a batch, also in lists."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, tuple | list):
        for part in batch:
            yield from tensors(part)


def _into_shared_memory(examples: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """As `collate`, where it can still fail aloud: torch would do it in a thread, and the training wait for ever.

    Raises:
        InputError: the shared memory is full.
    """
    batch = collate(examples)
    try:
        for part in tensors(batch):
            part.share_memory_()
    except RuntimeError as error:
        raise InputError(
            f"{SHARED} (shared memory, through which loader processes hand over images) is full; train with "
            f"--workers 0, or give it more room, as `docker run --shm-size=1g` does ({str(error)[:80]})."
        ) from None
    return batch


def _begin(worker: int, *, workers: int) -> None:
    BUDGET.divide(workers)
    _follow_the_parent(worker)


def _follow_the_parent(worker: int) -> None:
    """A loader process works as long as its training does, and no longer.

    Ctrl-C reaches every process of the terminal, and SIGTERM often every one of a service or of a cluster's job:
    training finishes its step, saves and ends its loaders. One that it did not end leaves by itself, within
    PATIENCE of having been told to, and at once where the training was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for kind in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(kind, lambda *_: signal.alarm(PATIENCE))
    threading.Thread(target=_leave_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _leave_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
