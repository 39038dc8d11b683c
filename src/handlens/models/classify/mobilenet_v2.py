"""MobileNetV2: inverted residuals and linear bottlenecks.

Source   Sandler et al. 2018, arXiv:1801.04381, section 3 and Table 2.
Input    images (N, 3, H, W) float32, RGB, normalized; any size.
Output   logits (N, K).
Size     width 1.0, 1000 classes: 3,504,872 parameters, 300.8 M multiply-adds at 224 x 224.
Differs  Section 3.4 says 19 bottlenecks, Table 2 has 17: 17. Table 2's pooling over 7 x 7 is a mean over any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct, Norm, Padding, initialise, round_channels
from handlens.models.classify.staged import StagedNet, check_counts, check_dropout, check_width

# Table 2: expansion t, output channels c, repetitions n, stride s of the first repetition.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


Table = Sequence[tuple[float, int, int, int]]


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1 without activation; a skip at stride 1 with equal channels.

    Source: Sandler et al. 2018, section 3.3 and Table 1. With expansion 1 the first convolution is left out, as in
    the authors' code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: float,
        stride: int,
        kernel: int = 3,
        norm: Norm = nn.BatchNorm2d,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        hidden = round(in_channels * expansion)
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = ConvNormAct(in_channels, hidden, kernel=1, norm=norm, activation=nn.ReLU6, padding=padding)
        self.depthwise = ConvNormAct(
            hidden,
            hidden,
            kernel=kernel,
            stride=stride,
            groups=hidden,
            norm=norm,
            activation=nn.ReLU6,
            padding=padding,
        )
        self.project = ConvNormAct(hidden, out_channels, kernel=1, norm=norm, padding=padding)
        self.skip = stride == 1 and in_channels == out_channels
        self.expanded_channels = hidden

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(x, self.expand(x))

    def finish(self, x: Tensor, expanded: Tensor) -> Tensor:
        """The rest of the block, from its input and the expanded map."""
        out: Tensor = self.project(self.depthwise(expanded))
        return x + out if self.skip else out


class MobileNetV2(StagedNet):
    """A stem, seventeen inverted residuals, a 1x1 head, one linear classifier.

    Args:
        num_classes: K.
        width: multiplies the channels of every layer but the head, which only grows: 0.35 to 1.4 in the paper.
        in_channels: of the images.
        dropout: before the classifier.
        table: rows (expansion, channels, repetitions, stride) in place of Table 2.
        round_to: channels are multiples of this; 1 turns rounding off.
        block: makes a block, called as InvertedResidual is.
        norm: makes a norm layer for a number of channels.
        padding: "same" for weights that come from TensorFlow.

    Raises:
        ValueError: a number out of range, with the row of the table it stands in.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        width: float = 1.0,
        in_channels: int = 3,
        dropout: float = 0.2,
        table: Table = BOTTLENECKS,
        round_to: int = 8,
        block: Callable[..., nn.Module] = InvertedResidual,
        norm: Norm = nn.BatchNorm2d,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, round_to=round_to)
        check_width(width)
        check_dropout(dropout)
        check_table(table)
        channels = round_channels(32 * width, to=round_to)
        self.stem = ConvNormAct(in_channels, channels, stride=2, norm=norm, activation=nn.ReLU6, padding=padding)
        total_stride = 2
        self.maps = {"stem": (channels, total_stride)}
        self.blocks = nn.ModuleList()
        for expansion, full_width, repetitions, first_stride in table:
            out_channels = round_channels(full_width * width, to=round_to)
            for repetition in range(repetitions):
                stride = first_stride if repetition == 0 else 1
                made = block(channels, out_channels, expansion=expansion, stride=stride, norm=norm, padding=padding)
                self.blocks.append(made)
                number = len(self.blocks)
                if isinstance(made, InvertedResidual):
                    self.maps[f"block{number}.expand"] = (made.expanded_channels, total_stride)
                channels, total_stride = out_channels, total_stride * stride
                self.maps[f"block{number}"] = (channels, total_stride)
        last = round_channels(1280 * max(1.0, width), to=round_to)
        self.head = ConvNormAct(channels, last, kernel=1, norm=norm, activation=nn.ReLU6, padding=padding)
        self.maps["head"] = (last, total_stride)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last, num_classes)
        initialise(self)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Every map by name, in the order of `maps`; "blockN.expand" is the expanded map inside block N."""
        maps = feature_maps(self, images)
        maps["head"] = self.head(maps[f"block{len(self.blocks)}"])
        return maps

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(self.head(x))


def feature_maps(net: Any, images: Tensor) -> dict[str, Tensor]:
    """Maps of the stem and the blocks, from a net that has `stem` and `blocks`."""
    x = net.stem(images)
    maps = {"stem": x}
    for number, block in enumerate(net.blocks, start=1):
        if isinstance(block, InvertedResidual):
            expanded = maps[f"block{number}.expand"] = block.expand(x)
            x = block.finish(x, expanded)
        else:
            x = block(x)
        maps[f"block{number}"] = x
    return maps


def check_table(table: Table) -> None:
    """
    Raises:
        ValueError: naming the row, the column and the value.
    """
    if not table:
        raise ValueError("the table of bottlenecks is empty; give rows (t, c, n, s)")
    for number, row in enumerate(table, start=1):
        if not isinstance(row, Sequence) or len(row) != 4:
            raise ValueError(f"row {number} of the table must be (t, c, n, s), got {row!r}")
        expansion, *whole, stride = row
        if type(expansion) not in (int, float) or not 1 <= expansion < math.inf:
            raise ValueError(f"row {number} of the table: t must be a number from 1 up, got {expansion!r}")
        for name, value in zip("cn", whole, strict=True):
            if type(value) is not int or value < 1:
                raise ValueError(f"row {number} of the table: {name} must be a whole number from 1 up, got {value!r}")
        if type(stride) is not int or stride not in (1, 2):
            raise ValueError(f"row {number} of the table: s must be 1 or 2, got {stride!r}")
