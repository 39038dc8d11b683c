"""Bias correction: rounded weights move the mean of what a layer makes, and its bias moves it back.

Source   Nagel et al. 2019, arXiv:1906.04721, section 4.2: E[y] = E[y~] - E[e x], with e the rounding of the weights.
Differs  The mean of the input is measured on calibration images (their appendix D), not derived from batch norm.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from handlens.quantization.rounding import weight_rounding
from handlens.quantization.unfolded import TRANSPOSED, Layer, Unfolded, aten
from handlens.runtimes.int8 import Scheme

if TYPE_CHECKING:
    from handlens.quantization.observe import Observed


def bias_corrected(
    unfolded: Unfolded, observed: Observed, scheme: Scheme, *, keep_float: Collection[str] = ()
) -> Unfolded:
    """A copy whose biases make up for what a scheme's rounding of the weights does to means.

    Args:
        observed: the net's activations on calibration images.
        keep_float: names of layers whose weights are not rounded.
    """
    made = unfolded.copied()
    with torch.no_grad():
        for layer in made.quantized(scheme):
            if layer.name in keep_float or layer.bias not in made.own_parameters(layer):
                continue
            weight = made.module.get_parameter(layer.weight)
            rounding = weight_rounding(weight, axis=layer.channel_axis, limit=scheme.limit_of(layer.depthwise))
            rounding.enabled = True
            shift = bias_shift(layer, weight, rounding(weight), observed.means[layer.node.name])
            bias = made.module.get_parameter(str(layer.bias))
            bias.copy_(bias.double() + shift)
    return made


def input_mean(layer: Layer, x: Tensor) -> Tensor:
    """Of every channel that a layer takes: (C,)."""
    if layer.node.target is aten.linear.default:
        return x.double().flatten(0, -2).mean(0)
    return x.double().transpose(0, 1).flatten(1).mean(1)


def bias_shift(layer: Layer, weight: Tensor, rounded: Tensor, mean: Tensor) -> Tensor:
    """What is added to the bias: (output channels,), float64.

    Args:
        weight, rounded: of the layer, before and after rounding.
        mean: (C,) of its input channels.

    Raises:
        ValueError: the number of channels does not fit.
    """
    error = (rounded.double() - weight.double()).flatten(2).sum(2) if weight.dim() > 2 else (rounded - weight).double()
    groups = layer.node.args[6] if weight.dim() > 2 and len(layer.node.args) > 6 else 1
    assert isinstance(groups, int)
    if layer.node.target in TRANSPOSED:
        parts = error.reshape(groups, -1, error.shape[1]).transpose(1, 2)  # (groups, outputs, inputs) of a group
    else:
        parts = error.reshape(groups, -1, error.shape[1])
    if mean.numel() != groups * parts.shape[2]:
        raise ValueError(f"mean must have {groups * parts.shape[2]} channels, got {tuple(mean.shape)}")
    return -torch.einsum("goi,gi->go", parts, mean.double().reshape(groups, -1)).flatten()
