"""Batches in an order that can be stopped anywhere and continued exactly.

The sampler yields (epoch, index). The order depends on (seed, epoch); the augmentation of a picture on
(seed, epoch, index): so a run is the same for any number of workers.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from handlens.data.examples import Examples, Key, collate
from handlens.data.seeds import seed_for


class EpochBatches:
    """A batch sampler: lists of (epoch, index), shuffled anew by (seed, epoch), from any batch on."""

    def __init__(self, count: int, *, batch_size: int, seed: int, shuffle: bool) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.epoch = 0
        self.first_batch = 0

    def __len__(self) -> int:
        """Batches in a whole epoch. No picture is left out: the last batch is smaller, and a last picture alone joins
        the batch before it, because batch norm cannot learn from one value per channel."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (rest > 1 or (rest == 1 and whole == 0))

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.order(self.epoch)
        for number in range(self.first_batch, len(self)):
            end = self.count if number + 1 == len(self) else (number + 1) * self.batch_size
            yield [(self.epoch, int(index)) for index in order[number * self.batch_size : end]]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(count,) the order of the pictures in an epoch."""
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(self.count)


class ResumableLoader:
    """A DataLoader that knows how many batches were used, and starts there again.

    Lightning saves `state_dict` into checkpoints; without it a resumed run would silently see the first
    batches of the epoch again.
    """

    def __init__(self, pictures: Examples, *, batch_size: int, seed: int, shuffle: bool, workers: int) -> None:
        self.batches = EpochBatches(len(pictures), batch_size=batch_size, seed=seed, shuffle=shuffle)
        self.loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_sampler=self.batches,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_leave_signals_to_the_parent if workers else None,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
        )
        self._used = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        if self._used == len(self):  # Lightning stops at the length and never reaches the end of the loop below
            self.batches.epoch, self._used = self.batches.epoch + 1, 0
        self.batches.first_batch = self._used
        for batch in self.loader:
            self._used += 1
            yield batch

    def close(self) -> None:
        """End the loader processes, which would stay until this process ends: they leave signals to it."""
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


def loading_seconds(loader: Iterable[Any]) -> float:
    """What the batches after the first take to load, in the mean of two; 0 where there is one alone."""
    batches = iter(loader)
    next(batches)
    begin = time.perf_counter()
    count = sum(1 for _ in zip(range(2), batches, strict=False))
    return (time.perf_counter() - begin) / count if count else 0.0


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


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal, and SIGTERM often every one of a service or a cluster's job;
    training finishes its step and decides when its loaders end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
