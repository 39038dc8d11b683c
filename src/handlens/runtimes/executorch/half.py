"""A DeployGraph whose model computes with 16 bits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from handlens.runtimes.graph import DeployGraph


class Half(nn.Module):
    """The arithmetic of Preprocess and the last step compute in float32.

    forward: as a DeployGraph's.
    """

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        assert isinstance(graph, DeployGraph)  # one that resizes is refused
        self.deployed = graph
        self.net = copy.deepcopy(graph.net).half()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        whole = self.deployed
        raw = _floats(self.net(whole.scale(images).half()))
        return whole.last_step(whole.net, raw, suppress=whole.suppress)


def _floats(raw: Any) -> Any:
    return torch.utils._pytree.tree_map_only(Tensor, lambda part: part.float(), raw)
