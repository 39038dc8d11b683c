"""What a net costs: parameters and multiply-adds."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(net: nn.Module) -> int:
    """Learnable numbers, batch norm's scale and shift included, its running statistics not."""
    return sum(parameter.numel() for parameter in net.parameters())


def multiply_adds(net: nn.Module, *, height: int, width: int, channels: int = 3) -> int:
    """Multiply-adds of convolutions and matrix products for one picture, as papers count them.

    Batch norm, activations and pooling are left out: at inference the first is part of the convolution.
    Runs a copy on the "meta" device, so that nothing is computed and the net stays as it is.

    Source: torch.utils.flop_counter, which counts a multiply-add as two operations.
    """
    shadow = copy.deepcopy(net).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shadow(torch.empty(1, channels, height, width, device="meta"))
    return int(counter.get_total_flops()) // 2
