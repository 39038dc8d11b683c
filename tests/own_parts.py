"""What a researcher writes beside handlens: a module of its own, so that its parts can be imported by name."""

from __future__ import annotations

from torch import nn


class PlainBlock(nn.Sequential):
    """In place of MobileNetV2's inverted residual."""

    def __init__(self, in_channels, out_channels, *, expansion, stride, norm, padding):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU6(),
        )
