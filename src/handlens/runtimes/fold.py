"""Batch norm folded into the convolutions before it: fewer operators, named by their layers in every runtime."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Graph = TypeVar("Graph", bound=nn.Module)
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NOISE = 1e-3  # of the greatest number, that folding may change; it rounds otherwise


def folded(graph: Graph, example: Tensor) -> Graph:
    """A copy in which no BatchNorm2d stands directly behind a convolution, with the same outputs up to rounding.

    A pair is folded where both are called once and nobody listens in. Modules do not tell who else uses what they
    return: where the copy gives other numbers, or cannot be made, it is the graph itself that comes back.

    Args:
        graph: in eval mode.
        example: an input of it, which says size and type.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
    """
    try:
        made = copy.deepcopy(graph)
    except RuntimeError:  # weights that are computed of others cannot be copied
        return graph
    names: dict[nn.Module, list[str]] = {}
    for name, module in made.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for convolution, norm in _pairs(made, example):
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        fused = fuse_conv_bn_eval(convolution, norm, transpose=transposed)
        for name in names[convolution]:
            made.set_submodule(name, fused)
        for name in names[norm]:
            made.set_submodule(name, nn.Identity())
    return made if _alike(graph, made, example) else graph


def _pairs(graph: nn.Module, example: Tensor) -> list[tuple[Any, nn.BatchNorm2d]]:
    """(convolution, norm) where the norm is given just what the convolution returned."""
    calls: Counter[nn.Module] = Counter()
    latest: list[tuple[nn.Module, Tensor, int]] = []  # convolution, what it returned, and how often that was written to
    found: dict[nn.BatchNorm2d, nn.Module] = {}

    def called(module: nn.Module, inputs: Any, output: Tensor) -> None:
        calls[module] += 1
        if isinstance(module, CONVOLUTIONS):
            latest[:] = [(module, output, output._version)]
        elif latest and inputs and isinstance(module, nn.BatchNorm2d):
            convolution, returned, version = latest[0]
            if inputs[0] is returned and returned._version == version:
                found[module] = convolution

    parts = [module for module in graph.modules() if type(module) in (*CONVOLUTIONS, nn.BatchNorm2d)]
    heard = [module for module in parts if module._forward_hooks or module._forward_pre_hooks]
    hooks = [module.register_forward_hook(called) for module in parts if module not in heard]
    try:
        with torch.no_grad():  # in inference mode, tensors do not count what is written to them
            graph(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (convolution, norm)
        for norm, convolution in found.items()
        if calls[norm] == calls[convolution] == 1 and norm.running_mean is not None
    ]


def _alike(graph: nn.Module, made: nn.Module, example: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    if example.dtype == torch.uint8:
        example = torch.randint(0, 256, example.shape, dtype=torch.uint8, generator=generator)
    else:
        example = torch.rand(example.shape, generator=generator)
    with torch.inference_mode():
        before, after = (list(_numbers(_of_net(each, example))) for each in (graph, made))
    return all(
        bool(((one - other).abs().nan_to_num() <= NOISE * one.abs().nan_to_num().max()).all())
        for one, other in zip(before, after, strict=True)
    )


def _of_net(graph: nn.Module, images: Tensor) -> Any:
    """What a DeployGraph's model gives: behind the last step, the order of boxes hangs on the last bit."""
    net, scale = getattr(graph, "net", None), getattr(graph, "scale", None)
    return graph(images) if net is None or scale is None else net(scale(images))


def _numbers(raw: Any) -> Iterator[Tensor]:
    for part in torch.utils._pytree.tree_leaves(raw):
        if isinstance(part, Tensor) and part.is_floating_point():
            yield part
