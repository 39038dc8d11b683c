"""What runs a graph: uint8 images in, arrays by output name out. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "auto"]
Arrays = dict[str, NDArray[Any]]


class Engine(Protocol):
    """Runs a DeployGraph.

    Attributes:
        runtime: its name and version, for the report.
        precision: what it computes in, for example "f32" or "bf16".
    """

    runtime: str
    precision: str

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        """(N, height, width, C) uint8 -> arrays (N, ...) by output name."""
        ...

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        """Run many (key, images) batches, several at once; results come in the order they went in."""
        ...


class TorchEngine:
    """The PyTorch module itself, on the device it is on: the reference, and what a GPU uses.

    Args:
        forward: (N, H, W, C) uint8 array -> arrays by name; made by whoever has torch.
    """

    def __init__(self, forward: Callable[[NDArray[np.uint8]], Arrays], *, runtime: str) -> None:
        self.runtime = runtime
        self.precision = "f32"
        self._forward = forward

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        return self._forward(images)

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        for key, images in batches:
            yield key, self.run(images)


def stacked(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One batch (N, H, W, C) from N images of one size; of one image alone, without a copy."""
    return images[0][None] if len(images) == 1 else np.stack(images)
