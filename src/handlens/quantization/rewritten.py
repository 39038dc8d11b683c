"""Nets whose weights were changed for int8 in their graph of operators, and stand in their modules again."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.quantization.bias import bias_corrected
from handlens.quantization.equalization import equalized
from handlens.quantization.observe import observe
from handlens.quantization.sensitivity import unfold
from handlens.quantization.unfolded import Unfolded
from handlens.runtimes.int8 import Scheme


class ChannelLimit(nn.Module):
    """min(relu(x), limit), a limit for each channel: ReLU6 whose channels were rescaled."""

    limit: Tensor

    def __init__(self, limit: Tensor) -> None:
        super().__init__()
        self.register_buffer("limit", limit, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(x.relu(), self.limit)


def with_equal_channels(net: nn.Module, images: Tensor) -> nn.Module:
    """A copy, equalized (`equalization`).

    Args:
        net: in eval mode, batch norm folded.
        images: (N, C, H, W) float32, normalized.

    Raises:
        InputError: torch.export cannot take the net, or its weights have no places of their own.
    """
    return written(net, equalized(unfold(net, images)))


def with_corrected_bias(net: nn.Module, images: Tensor, scheme: Scheme) -> nn.Module:
    """A copy with biases corrected for what a scheme does to weights (`bias`); else as `with_equal_channels`."""
    unfolded = unfold(net, images)
    return written(net, bias_corrected(unfolded, observe(unfolded, images), scheme))


def written(net: nn.Module, unfolded: Unfolded) -> nn.Module:
    """A copy of the net with the weights and the limits of activations of its graph.

    Raises:
        InputError: a weight or an activation is none of a module that runs once, as in a model of one's own.
    """
    made = copy.deepcopy(net)
    names = {name for layer in unfolded.layers for name in (layer.weight, layer.bias) if name is not None}
    try:
        with torch.no_grad():
            for name in names:
                made.get_parameter(name).copy_(unfolded.module.get_parameter(name))
        for name, limit in unfolded.limits.items():
            if not isinstance(made.get_submodule(name), nn.ReLU6):
                raise AttributeError(f"{name!r} is no module of ReLU6")
            made.set_submodule(name, ChannelLimit(limit), strict=True)
    except AttributeError as error:
        raise InputError(f"the weights of {type(net).__name__} cannot be changed for int8: {error}.") from error
    return made
