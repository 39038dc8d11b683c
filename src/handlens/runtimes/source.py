"""What is converted: a graph and what its file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlens.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Source:
    """
    Attributes:
        graph: a DeployGraph or ResizingGraph.
        outputs: their names, in the graph's order.
        metadata: what the file says of itself, by key: class names, preprocess and the like.
        any_size: the graph takes images of any size, one at a time.
    """

    graph: nn.Module
    preprocess: Preprocess
    outputs: Sequence[str]
    metadata: dict[str, Any]
    any_size: bool = False

    def example_shape(self, batch: int) -> tuple[int, int, int, int]:
        """(N, height, width, C) of images that it takes; of any size, some that no size of a layer equals."""
        if self.any_size:
            return 1, 301, 407, 3  # gray is made inside
        return batch, self.preprocess.height, self.preprocess.width, self.preprocess.channels
