"""ResNet: residual blocks, 18 to 152 layers deep.

Source   He et al. 2015, arXiv:1512.03385, Table 1 and Figure 5.
Input    images (N, 3, H, W) float32, RGB, normalized; any size.
Output   logits (N, K).
Size     1000 classes: 11,689,512 (18), 21,797,672 (34), 25,557,032 (50), 44,549,160 (101), 60,192,808 (152) parameters.
Differs  A bottleneck strides in its 3 x 3 convolution instead of its first 1 x 1, as the published weights do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct, initialize
from handlens.models.classify.staged import StagedNet, check_counts

# depth: (bottlenecks or basic blocks, blocks per stage)
STAGES = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
CHANNELS = (64, 128, 256, 512)
WIDER = 4  # times more channels behind a bottleneck than inside


class Residual(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1; the input is added, projected where its shape is another."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out_channels = channels * (WIDER if bottleneck else 1)
        if bottleneck:
            self.convs = nn.Sequential(
                ConvNormAct(in_channels, channels, kernel=1, activation=nn.ReLU),
                ConvNormAct(channels, channels, stride=stride, activation=nn.ReLU),
                ConvNormAct(channels, out_channels, kernel=1),
            )
        else:
            self.convs = nn.Sequential(
                ConvNormAct(in_channels, channels, stride=stride, activation=nn.ReLU),
                ConvNormAct(channels, out_channels),
            )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNormAct(in_channels, out_channels, kernel=1, stride=stride)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convs(x) + self.shortcut(x))


class ResNet(StagedNet):
    """A 7 x 7 stem, max-pooling, four stages of residual blocks, a mean and a linear classifier.

    Args:
        depth: 18, 34, 50, 101 or 152 layers with weights.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, num_classes: int, depth: int = 50, in_channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        if depth not in STAGES:
            raise ValueError(f"depth must be one of {', '.join(map(str, STAGES))}, got {depth}")
        bottleneck, counts = STAGES[depth]
        self.stem = ConvNormAct(in_channels, 64, kernel=7, stride=2, activation=nn.ReLU)
        self.maps = {"stem": (64, 2)}
        self.blocks = nn.ModuleList()
        channels, total_stride = 64, 4
        for stage, count in enumerate(counts):
            for place in range(count):
                stride = 2 if stage > 0 and place == 0 else 1
                block = Residual(channels, CHANNELS[stage], stride=stride, bottleneck=bottleneck)
                self.blocks.append(block if self.blocks else nn.Sequential(nn.MaxPool2d(3, 2, padding=1), block))
                channels, total_stride = block.out_channels, total_stride * stride
                self.maps[f"block{len(self.blocks)}"] = (channels, total_stride)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self)

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename a state dict with torchvision's names into ours; None where it has others."""
        if "layer1.0.conv1.weight" not in state:
            return None
        places = {match[0] for key in state if (match := re.match(r"layer\d\.\d+", key))}
        order = sorted(places, key=lambda place: [int(number) for number in place.removeprefix("layer").split(".")])
        ours = {place: f"blocks.{number}" for number, place in enumerate(order)}
        ours["layer1.0"] = "blocks.0.1"  # max-pooling stands before it
        renamed = {}
        for key, value in state.items():
            if match := re.fullmatch(r"(layer\d\.\d+)\.(conv|bn)(\d)\.(\w+)", key):
                place, kind, number, what = match.groups()
                key = f"{ours[place]}.convs.{int(number) - 1}.{'conv' if kind == 'conv' else 'norm'}.{what}"
            elif match := re.fullmatch(r"(layer\d\.\d+)\.downsample\.([01])\.(\w+)", key):
                key = f"{ours[match[1]]}.shortcut.{'norm' if match[2] == '1' else 'conv'}.{match[3]}"
            elif match := re.fullmatch(r"(conv1|bn1)\.(\w+)", key):
                key = f"stem.{'conv' if match[1] == 'conv1' else 'norm'}.{match[2]}"
            elif match := re.fullmatch(r"fc\.(\w+)", key):
                key = f"classifier.{match[1]}"
            renamed[key] = value
        return renamed
