"""Batch norm folded into the convolutions before it: fewer operators, named by their layers in every runtime."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Graph = TypeVar("Graph", bound=nn.Module)
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def folded(graph: Graph, example: Tensor) -> Graph:
    """A copy in which no BatchNorm2d stands directly behind a convolution, with the same outputs up to rounding.

    A pair is folded where both are called once; others stay as they are.

    Args:
        graph: in eval mode.
        example: an input of it.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
    """
    made = copy.deepcopy(graph)
    pairs = _pairs(made, example)
    names = {module: name for name, module in made.named_modules()}
    for convolution, norm in pairs:
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        fused = fuse_conv_bn_eval(convolution, norm, transpose=transposed)
        made.set_submodule(names[convolution], fused)
        made.set_submodule(names[norm], nn.Identity())
    return made


def _pairs(graph: nn.Module, example: Tensor) -> list[tuple[Any, nn.BatchNorm2d]]:
    """(convolution, norm) where the norm is given just what the convolution returned."""
    calls: Counter[nn.Module] = Counter()
    latest: list[tuple[nn.Module, Tensor]] = []  # of convolutions
    found: dict[nn.BatchNorm2d, nn.Module] = {}

    def called(module: nn.Module, inputs: Any, output: Tensor) -> None:
        calls[module] += 1
        if isinstance(module, CONVOLUTIONS):
            latest[:] = [(module, output)]
        elif latest and inputs[0] is latest[0][1] and isinstance(module, nn.BatchNorm2d):
            found[module] = latest[0][0]

    parts = [module for module in graph.modules() if type(module) in (*CONVOLUTIONS, nn.BatchNorm2d)]
    hooks = [module.register_forward_hook(called) for module in parts]
    try:
        with torch.inference_mode():
            graph(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (convolution, norm)
        for norm, convolution in found.items()
        if calls[norm] == calls[convolution] == 1 and norm.running_mean is not None
    ]
