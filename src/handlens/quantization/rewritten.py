"""Nets whose weights are changed for int8: computed on their graph of operators, written back into their modules."""

from __future__ import annotations

import copy
from collections.abc import Collection

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
        net: in eval mode.
        images: (N, C, H, W) float32, normalized.

    Raises:
        InputError: torch.export cannot take the net, or an activation that must change is no module.
    """
    return written(equalized(unfold(net, images)))


def with_corrected_bias(
    net: nn.Module, images: Tensor, scheme: Scheme, *, keep_float: Collection[str] = ()
) -> nn.Module:
    """A copy with biases corrected for what a scheme does to weights (`bias`); else as `with_equal_channels`.

    Args:
        keep_float: names of layers that are not rounded.
    """
    unfolded = unfold(net, images)
    return written(bias_corrected(unfolded, observe(unfolded, images), scheme, keep_float=keep_float))


def written(unfolded: Unfolded) -> nn.Module:
    """The modules that a graph was made of, batch norm folded, with its weights and its limits of activations.

    Raises:
        InputError: an activation with limits is no module.
    """
    made = copy.deepcopy(unfolded.net)
    known = dict(unfolded.module.named_parameters())
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name in known:
                weight.copy_(known[name])
    for name, limit in unfolded.limits.items():
        if not isinstance(dict(made.named_modules()).get(name), nn.ReLU6):
            raise InputError(
                f"{type(made).__name__} cannot be equalized: {name!r} calls ReLU6 as a function; make it an nn.ReLU6."
            )
        made.set_submodule(name, ChannelLimit(limit))
    return made
