"""Images on disk to answers, as fast as the machine decodes and computes, in bounded memory and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handlens.data.budget import BUDGET
from handlens.data.decode import UnreadableImageError, decode
from handlens.errors import unexpected
from handlens.machine import cores
from handlens.preprocess import Preprocess, middle
from handlens.runtimes.engine import Arrays, stacked

Pixels = NDArray[np.uint8]
Loaded = tuple[Pixels, tuple[int, int]]  # what the net is fed, and the (height, width) of the image
Load = Callable[[Path, Preprocess], Loaded]
Item = tuple[Path, tuple[int, int]]
AHEAD = 32  # images decoded before they are needed: hides a slow disk, costs 32 x 150 KB


class Streaming(Protocol):
    """What `answers` needs of an engine."""

    def stream(self, batches: Iterable[tuple[Any, Pixels]]) -> Iterator[tuple[Any, Arrays]]:
        """As `Engine.stream`."""
        ...


@dataclass(frozen=True)
class Answer:
    """What came of one file: arrays without the batch dimension, or the reason why there are none.

    Attributes:
        size: (height, width) of the upright image, pixels.
    """

    path: Path
    arrays: Arrays | None
    error: str | None = None
    size: tuple[int, int] = (0, 0)


def load_pixels(path: Path, preprocess: Preprocess) -> Loaded:
    """A file as (height, width, C) uint8, and its size.

    It is decoded whole: reduced by the decoder, a photograph's probabilities would be others than in an app.

    Raises:
        UnreadableImageError: the file is no image that can be read.
    """
    with BUDGET.hold():
        return _reduced(decode(path), preprocess)


def load_middle(path: Path, preprocess: Preprocess) -> Loaded:
    """As `load_pixels`, of the middle of the image alone.

    Raises:
        UnreadableImageError: the file is no image that can be read.
    """
    with BUDGET.hold():
        return _reduced(middle(decode(path)), preprocess)


def load_both_views(path: Path, preprocess: Preprocess) -> Loaded:
    """As `load_pixels`, of the whole image and of its middle: (2, height, width, C).

    Raises:
        UnreadableImageError: the file is no image that can be read.
    """
    with BUDGET.hold():
        image = decode(path)
        views = [preprocess.pixels(image), preprocess.pixels(middle(image))]
    return np.stack(views), (image.shape[0], image.shape[1])


def _reduced(image: Pixels, preprocess: Preprocess) -> Loaded:
    return preprocess.pixels(image), (image.shape[0], image.shape[1])


def load_whole(path: Path, preprocess: Preprocess) -> Loaded:
    """A file at its own size, for graphs that resize inside.

    Raises:
        UnreadableImageError: the file is no image that can be read.
    """
    image = decode(path)
    return image, (image.shape[0], image.shape[1])


def answers(
    paths: Iterable[Path],
    engine: Streaming,
    *,
    preprocess: Preprocess,
    batch_size: int = 1,
    load: Load = load_pixels,
) -> Iterator[Answer]:
    """One Answer per path, in order. Threads decode (the decoders release Python's lock) while the engine runs.

    Paths are taken lazily: a million files need no more memory than a hundred.
    """
    failed: deque[Answer] = deque()  # unreadable files, each waiting for its turn

    def batches() -> Iterator[tuple[list[Item], Pixels]]:
        items: list[Item] = []
        images: list[Pixels] = []
        for path, loaded in _decoded(paths, preprocess, load):
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


def _decoded(paths: Iterable[Path], preprocess: Preprocess, load: Load) -> Iterator[tuple[Path, Loaded | str]]:
    def attempt(path: Path) -> Loaded | str:
        try:
            return load(path, preprocess)
        except UnreadableImageError as error:
            return str(error)
        except Exception as error:  # of a decoder, about this file alone: the others go on
            return unexpected(error, str(path))

    waiting: deque[tuple[Path, Future[Loaded | str]]] = deque()
    with ThreadPoolExecutor(cores(), thread_name_prefix="decode") as pool:
        for path in paths:
            waiting.append((path, pool.submit(attempt, path)))
            if len(waiting) >= AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
