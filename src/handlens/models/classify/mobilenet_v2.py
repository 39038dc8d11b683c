"""MobileNetV2: inverted residuals and linear bottlenecks.

Source   Sandler et al. 2018, arXiv:1801.04381, section 3 and Table 2.
Input    images (N, 3, H, W) float32, RGB, normalized; any size.
Output   logits (N, K).
Size     width 1.0, 1000 classes: 3,504,872 parameters, 300.8 M multiply-adds at 224 x 224.
Differs  Section 3.4 says 19 bottlenecks, Table 2 has 17: 17. Table 2's pooling over 7 x 7 is a mean over any size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct, Norm, Padding, initialize, round_channels
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

UNIT = {"0": "conv", "1": "norm"}
# Position in torchvision's `features.N.conv` -> our unit, for a block without an expansion and with one.
NESTED_PLAIN = {"0.0": "depthwise.conv", "0.1": "depthwise.norm", "1": "project.conv", "2": "project.norm"}
NESTED_EXPANDING = {
    "0.0": "expand.conv",
    "0.1": "expand.norm",
    "1.0": "depthwise.conv",
    "1.1": "depthwise.norm",
    "2": "project.conv",
    "3": "project.norm",
}
# The same in the older layout, where the activations (2 and 5) count.
FLAT_PLAIN = {"0": "depthwise.conv", "1": "depthwise.norm", "3": "project.conv", "4": "project.norm"}
FLAT_EXPANDING = {
    "0": "expand.conv",
    "1": "expand.norm",
    "3": "depthwise.conv",
    "4": "depthwise.norm",
    "6": "project.conv",
    "7": "project.norm",
}

TIMM_OUTSIDE = {"conv_stem": "stem.conv", "bn1": "stem.norm", "conv_head": "head.conv", "bn2": "head.norm"}
TIMM_PLAIN = {"conv_dw": "depthwise.conv", "bn1": "depthwise.norm", "conv_pw": "project.conv", "bn2": "project.norm"}
TIMM_EXPANDING = {
    "conv_pw": "expand.conv",
    "bn1": "expand.norm",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.norm",
    "conv_pwl": "project.conv",
    "bn3": "project.norm",
}

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
        initialize(self)

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename a state dict into ours from one of three layouts; None where it has others.

        Known: torchvision's (features.N.conv.0.0); the older flat one (features.N.conv.0 to .7, conv.0); timm's
        (conv_stem, blocks.S.N.conv_dw).
        """
        if "features.0.0.weight" not in state:
            return timm_to_our_names(state)
        flat = "features.1.conv.0.0.weight" not in state
        renamed = {}
        for key, value in state.items():
            if match := re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", key):
                number, position, what = match.groups()
                expands = f"features.{number}.conv.{7 if flat else 3}.weight" in state
                if flat:
                    units = FLAT_EXPANDING if expands else FLAT_PLAIN
                else:
                    units = NESTED_EXPANDING if expands else NESTED_PLAIN
                key = f"blocks.{int(number) - 1}.{units.get(position, position)}.{what}"
            elif match := re.fullmatch(r"features\.0\.([01])\.(\w+)", key):
                key = f"stem.{UNIT[match[1]]}.{match[2]}"
            elif match := re.fullmatch(r"(?:features\.\d+|conv)\.([01])\.(\w+)", key):
                key = f"head.{UNIT[match[1]]}.{match[2]}"
            elif match := re.fullmatch(r"classifier(?:\.\d)?\.(weight|bias)", key):  # alone, or behind a dropout
                key = f"classifier.{match[1]}"
            renamed[key] = value
        return renamed

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


def timm_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename a state dict of inverted residuals with timm's names into ours; None where it has others."""
    if "conv_stem.weight" not in state:
        return None
    matches = [re.match(r"blocks\.(\d+)\.(\d+)\.", key) for key in state]
    places = sorted({(int(match[1]), int(match[2])) for match in matches if match})  # (stage, repetition)
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", key):
            stage, repetition, unit, what = match.groups()
            expands = f"blocks.{stage}.{repetition}.conv_pwl.weight" in state
            number = places.index((int(stage), int(repetition)))
            key = f"blocks.{number}.{(TIMM_EXPANDING if expands else TIMM_PLAIN).get(unit, unit)}.{what}"
        else:
            unit, dot, what = key.partition(".")
            key = f"{TIMM_OUTSIDE.get(unit, unit)}{dot}{what}"
        renamed[key] = value
    return renamed


def check_table(table: Table) -> None:
    """
    Raises:
        ValueError: naming the row, the column and the value.
    """
    if not table:
        raise ValueError("the table of bottlenecks is empty; it needs rows (t, c, n, s)")
    for number, row in enumerate(table, start=1):
        if not isinstance(row, Sequence) or len(row) != 4:
            raise ValueError(f"row {number} of the table must be (t, c, n, s), got {row!r}")
        expansion, *whole, stride = row
        if type(expansion) not in (int, float) or not 1 <= expansion < math.inf:
            raise ValueError(f"row {number} of the table: t must be a number of at least 1, got {expansion!r}")
        for name, value in zip("cn", whole, strict=True):
            if type(value) is not int or value < 1:
                raise ValueError(f"row {number} of the table: {name} must be an integer of at least 1, got {value!r}")
        if type(stride) is not int or stride not in (1, 2):
            raise ValueError(f"row {number} of the table: s must be 1 or 2, got {stride!r}")
