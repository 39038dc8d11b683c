"""What runs a graph: uint8 images in, arrays by output name out. Nothing here imports torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from handlens.machine import cores

Precision = Literal["fp32", "auto", "int8"]
Arrays = dict[str, NDArray[Any]]


class Engine(Protocol):
    """Runs a DeployGraph.

    Attributes:
        runtime: its name and version, for the report.
        precision: what it computes in, for example "f32" or "bf16".
        metadata: what its file says of itself, by key; empty where there is no file.
    """

    runtime: str
    precision: str
    metadata: Mapping[str, Any]

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        """(N, height, width, C) uint8 -> arrays (N, ...) by output name."""
        ...

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        """Run many (key, images) batches, several at once; results come in the order they went in."""
        ...


class Model(Protocol):
    """A file, ready to run: what each room's runner.py has.

    Attributes:
        runtime: its name and version. precision: what it computes in, for example "f32".
        metadata: what the file says of itself, by key.
    """

    runtime: str
    precision: str

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by output name."""
        ...

    @property
    def metadata(self) -> dict[str, Any]: ...


class FileEngine:
    """An exported file in its own runtime: many batches side by side, each on a thread of its own, so that no thread
    waits for another; one batch on all of them.

    Args:
        open: makes a Model that uses so many threads; None is one per core.
        latency: tuned for one image at a time, rather than for many.
    """

    def __init__(self, open: Callable[[int | None], Model], *, latency: bool = False) -> None:
        count = 1 if latency else cores()
        self._models = [open(None if latency else 1) for _ in range(count)]
        self.runtime, self.precision = self._models[0].runtime, self._models[0].precision
        self.metadata: Mapping[str, Any] = self._models[0].metadata

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        return self._models[0].run(images)

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        free = SimpleQueue[Model]()
        for model in self._models:
            free.put(model)

        def run(images: NDArray[np.uint8]) -> Arrays:
            model = free.get()
            try:
                return model.run(images)
            finally:
                free.put(model)

        waiting: deque[tuple[Any, Future[Arrays]]] = deque()
        with ThreadPoolExecutor(len(self._models), thread_name_prefix="engine") as pool:
            for key, images in batches:
                waiting.append((key, pool.submit(run, images)))
                if len(waiting) > len(self._models):  # one more than run: it is ready when another ends
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()


class TorchEngine:
    """The PyTorch module itself, on the device it is on: the reference, and what a GPU uses.

    Args:
        forward: (N, H, W, C) uint8 array -> arrays by name; made by whoever has torch.
    """

    def __init__(self, forward: Callable[[NDArray[np.uint8]], Arrays], *, runtime: str) -> None:
        self.runtime = runtime
        self.precision = "f32"
        self.metadata: Mapping[str, Any] = {}
        self._forward = forward

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        return self._forward(images)

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        for key, images in batches:
            yield key, self.run(images)


def stacked(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One batch (N, H, W, C) from N images of one size; of one image alone, without a copy."""
    return images[0][None] if len(images) == 1 else np.stack(images)
