"""One quantizer: a tensor rounded to the levels of 8 bits and back, with PyTorch's own operators.

Source   Jacob et al. 2018, arXiv:1712.05877, section 2.1: r = S (q - Z), and section 3 for its simulation in float.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from handlens.runtimes.int8 import Ranges, Scheme

LEAST = 1e-8  # of a step, for tensors of zeros
MOMENTUM = 0.95  # of a moving average, what ai-edge-quantizer takes


class Rounding(nn.Module):
    """forward: a tensor of any shape -> the same, rounded where `enabled`.

    Attributes:
        axis: of channels with a range each; None is one range for the whole tensor.
        low, high: integers of the least and the greatest level.
        steps, zeros: scale S and zero point Z, (1,) or (channels,).
    """

    steps: Tensor
    zeros: Tensor

    def __init__(self, *, axis: int | None, low: int, high: int) -> None:
        super().__init__()
        self.axis, self.low, self.high = axis, low, high
        self.enabled = False
        self.register_buffer("steps", torch.ones(1), persistent=False)
        self.register_buffer("zeros", torch.zeros(1, dtype=torch.int32), persistent=False)

    def fit_weight(self, weight: Tensor, limit: float) -> None:
        """A step for each channel, so that its largest weight lies so many steps from zero."""
        assert self.axis is not None
        largest = weight.detach().transpose(0, self.axis).flatten(1).abs().amax(1).double()
        self.steps = (largest / limit).clamp(min=LEAST).float()
        self.zeros = torch.zeros(len(largest), dtype=torch.int32)

    def set_range(self, least: Tensor, greatest: Tensor, *, symmetric: bool) -> None:
        """
        Args:
            least, greatest: (1,) or (channels,). Zero always lies between.
            symmetric: zero is the middle level, where least is below it.
        """
        least, greatest = least.double().clamp(max=0), greatest.double().clamp(min=0)
        if symmetric:
            limit = torch.maximum(-least, greatest)
            unsigned = bool((least >= 0).all())
            self.low, self.high = (0, 255) if unsigned else (self.low, self.high)
            steps = (limit / self.high).clamp(min=LEAST)
            zeros = torch.zeros_like(steps)
        else:
            steps = ((greatest - least) / (self.high - self.low)).clamp(min=LEAST)
            zeros = (self.low - least / steps).round().clamp(self.low, self.high)
        self.steps, self.zeros = steps.float(), zeros.to(torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self._rounded(x)
        if self.axis is None:  # with gradients that pass through, as in Bengio et al. 2013
            return torch.fake_quantize_per_tensor_affine(x, self.steps, self.zeros, self.low, self.high)
        return torch.fake_quantize_per_channel_affine(x, self.steps, self.zeros, self.axis, self.low, self.high)

    def _rounded(self, x: Tensor) -> Tensor:
        """The same without gradients, in a third of the time."""
        steps, zeros = self.steps, self.zeros.to(x.dtype)
        if self.axis is not None:
            shape = [-1 if axis == self.axis else 1 for axis in range(x.dim())]
            steps, zeros = steps.reshape(shape), zeros.reshape(shape)
        made = (x * (1 / steps)).round_()
        return made.clamp_(min=self.low - zeros, max=self.high - zeros).mul_(steps)


def weight_rounding(weight: Tensor, *, axis: int, limit: float) -> Rounding:
    """For a layer's weight, a range for each of its output channels.

    Args:
        limit: as in Scheme.
    """
    made = Rounding(axis=axis, low=-math.ceil(limit), high=math.floor(limit))
    made.fit_weight(weight, limit)
    return made


def activation_rounding(extremes: Tensor, *, axis: int | None, scheme: Scheme) -> Rounding:
    """
    Args:
        extremes: (images, 2, 1) or (images, 2, channels): the least and the greatest value in each image.
    """
    made = Rounding(axis=axis, low=-128 if scheme.symmetric else 0, high=127 if scheme.symmetric else 255)
    ranges: Ranges = "extremes" if axis is not None and scheme.ranges == "averaged" else scheme.ranges
    least, greatest = spanned(extremes, ranges)
    made.set_range(least, greatest, symmetric=scheme.symmetric)
    return made


def spanned(extremes: Tensor, ranges: Ranges) -> tuple[Tensor, Tensor]:
    """The range by one of the rules of Scheme; see `activation_rounding`."""
    if ranges == "extremes":
        return extremes[:, 0].amin(0), extremes[:, 1].amax(0)
    if ranges == "averaged":
        return extremes[:, 0].mean(0), extremes[:, 1].mean(0)
    held = extremes[0]
    for image in extremes[1:]:
        held = MOMENTUM * held + (1 - MOMENTUM) * image
    return held[0], held[1]
