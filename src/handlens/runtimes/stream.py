"""Images on disk to answers, as fast as the machine decodes and computes, in bounded memory and in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import UnreadableImageError, decode, probe
from handlens.preprocess import Preprocess
from handlens.runtimes.engine import Arrays, Engine, stacked

Pixels = NDArray[np.uint8]
Loaded = tuple[Pixels, tuple[int, int]]  # what the net is fed, and the (height, width) of the image
Item = tuple[Path, tuple[int, int]]
AHEAD = 32  # images decoded before they are needed: hides a slow disk, costs 32 x 150 KB


@dataclass(frozen=True)
class Answer:
    """What came of one file: arrays without the batch dimension, or the reason why there are none.

    Attributes:
        size: (height, width) of the upright image, pixels, where it was asked for.
    """

    path: Path
    arrays: Arrays | None
    error: str | None = None
    size: tuple[int, int] = (0, 0)


def load_pixels(path: Path, preprocess: Preprocess) -> Pixels:
    """A file as (height, width, C) uint8, decoded no larger than needed.

    Raises:
        UnreadableImageError: the file is no image that can be read.
    """
    image = decode(path, at_least=preprocess.smallest_decode())
    return preprocess.pixels(image, size=_size(path) if preprocess.resize == "pad" else None)


def answers(
    paths: Iterable[Path],
    engine: Engine,
    *,
    preprocess: Preprocess,
    batch_size: int = 1,
    load: Callable[[Path, Preprocess], Pixels] = load_pixels,
    sized: bool = False,
) -> Iterator[Answer]:
    """One Answer per path, in order. Threads decode (the decoders release Python's lock) while the engine runs.

    Args:
        sized: also read each image's size, which an image decoded at reduced scale no longer has.

    Paths are taken lazily: a million files need no more memory than a hundred.
    """
    failed: deque[Answer] = deque()  # unreadable files, each waiting for its turn

    def batches() -> Iterator[tuple[list[Item], Pixels]]:
        items: list[Item] = []
        images: list[Pixels] = []
        for path, loaded in _decoded(paths, preprocess, load, sized=sized):
            if isinstance(loaded, str):
                failed.append(Answer(path, None, loaded))
                items.append((path, (0, 0)))
                continue
            items.append((path, loaded[1]))
            images.append(loaded[0])
            if len(images) == batch_size:
                yield items, stacked(images)
                items, images = [], []
        if images:
            yield items, stacked(images)
        elif items:
            leftovers.extend(items)

    leftovers: list[Item] = []
    for items, arrays in engine.stream(batches()):
        row = 0
        for path, size in items:
            if failed and failed[0].path is path:
                yield failed.popleft()
                continue
            yield Answer(path, {name: values[row] for name, values in arrays.items()}, size=size)
            row += 1
    for _ in leftovers:
        yield failed.popleft()


def _decoded(
    paths: Iterable[Path], preprocess: Preprocess, load: Callable[[Path, Preprocess], Pixels], *, sized: bool
) -> Iterator[tuple[Path, Loaded | str]]:
    def attempt(path: Path) -> Loaded | str:
        try:
            pixels = load(path, preprocess)
            return pixels, _size(path) if sized else (0, 0)
        except UnreadableImageError as error:
            return str(error)

    waiting: deque[tuple[Path, Future[Loaded | str]]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode") as pool:
        for path in paths:
            waiting.append((path, pool.submit(attempt, path)))
            if len(waiting) >= AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _size(path: Path) -> tuple[int, int]:
    info = probe(path.read_bytes(), str(path))
    return info.height, info.width
