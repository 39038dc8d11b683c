"""Pictures on disk to answers, as fast as the machine decodes and computes, in bounded memory and in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import UnreadablePictureError, decode
from handlens.deploy.engines import Arrays, Engine, stacked
from handlens.preprocess import Preprocess

Pixels = NDArray[np.uint8]
AHEAD = 32  # pictures decoded before they are needed: hides a slow disk, costs 32 x 150 KB


@dataclass(frozen=True)
class Answer:
    """What came of one file: arrays without the batch dimension, or the reason why there are none."""

    path: Path
    arrays: Arrays | None
    error: str | None = None


def load_pixels(path: Path, preprocess: Preprocess) -> Pixels:
    """A file as (height, width, C) uint8, decoded no larger than needed.

    Raises:
        UnreadablePictureError: the file is no picture that can be read.
    """
    return preprocess.pixels(decode(path, at_least=preprocess.smallest_decode()))


def answers(
    paths: Iterable[Path],
    engine: Engine,
    *,
    preprocess: Preprocess,
    batch_size: int = 1,
    load: Callable[[Path, Preprocess], Pixels] = load_pixels,
) -> Iterator[Answer]:
    """One Answer per path, in order. Threads decode (the decoders release Python's lock) while the engine runs.

    Paths are taken lazily: a million files need no more memory than a hundred.
    """
    failed: deque[Answer] = deque()  # unreadable files, each waiting for its turn

    def batches() -> Iterator[tuple[list[Path], Pixels]]:
        names: list[Path] = []
        images: list[Pixels] = []
        for path, pixels in _decoded(paths, preprocess, load):
            if isinstance(pixels, str):
                failed.append(Answer(path, None, pixels))
                names.append(path)
                continue
            names.append(path)
            images.append(pixels)
            if len(images) == batch_size:
                yield names, stacked(images)
                names, images = [], []
        if images:
            yield names, stacked(images)
        elif names:
            leftovers.extend(names)

    leftovers: list[Path] = []
    for names, arrays in engine.stream(batches()):
        row = 0
        for path in names:
            if failed and failed[0].path is path:
                yield failed.popleft()
                continue
            yield Answer(path, {name: values[row] for name, values in arrays.items()})
            row += 1
    for _ in leftovers:
        yield failed.popleft()


def _decoded(
    paths: Iterable[Path], preprocess: Preprocess, load: Callable[[Path, Preprocess], Pixels]
) -> Iterator[tuple[Path, Pixels | str]]:
    def attempt(path: Path) -> Pixels | str:
        try:
            return load(path, preprocess)
        except UnreadablePictureError as error:
            return str(error)

    waiting: deque[tuple[Path, Future[Pixels | str]]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode") as pool:
        for path in paths:
            waiting.append((path, pool.submit(attempt, path)))
            if len(waiting) >= AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
