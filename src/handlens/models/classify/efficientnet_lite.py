"""EfficientNet-Lite0: EfficientNet-B0 for phones, without squeeze-and-excitation and swish.

Source   Tan and Le 2019, arXiv:1905.11946, Table 1 (B0); "Lite" after TensorFlow's efficientnet/lite README, 2020.
Input    images (N, 3, H, W) float32, RGB, (pixel - 127) / 128; any size.
Output   logits (N, K).
Size     1000 classes: 4,652,008 parameters.
Differs  Lite fixes stem and head at 32 and 1280 channels, uses ReLU6, and TensorFlow's asymmetric SAME padding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct, Padding, initialize
from handlens.models.classify.mobilenet_v2 import InvertedResidual, feature_maps, timm_to_our_names
from handlens.models.classify.staged import StagedNet, check_counts, check_dropout

# Table 1 of the paper, stages 2 to 8: expansion, kernel, output channels, repetitions, stride of the first.
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)

# EfficientNet-PyTorch's name -> our layer; in a block, our unit.
PUBLISHED_OUTSIDE = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
PUBLISHED_UNITS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


class EfficientNetLite0(StagedNet):
    """A stem, sixteen inverted residuals, a 1x1 head, one linear classifier. Arguments as MobileNetV2's."""

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.2, padding: Padding = "same"
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        check_dropout(dropout)
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # TensorFlow's
        channels = 32
        self.stem = ConvNormAct(in_channels, channels, stride=2, norm=norm, activation=nn.ReLU6, padding=padding)
        total_stride = 2
        self.maps = {"stem": (channels, total_stride)}
        self.blocks = nn.ModuleList()
        for expansion, kernel, out_channels, repetitions, first_stride in STAGES:
            for repetition in range(repetitions):
                stride = first_stride if repetition == 0 else 1
                block = InvertedResidual(
                    channels,
                    out_channels,
                    expansion=expansion,
                    stride=stride,
                    kernel=kernel,
                    norm=norm,
                    padding=padding,
                )
                self.blocks.append(block)
                number = len(self.blocks)
                self.maps[f"block{number}.expand"] = (block.expanded_channels, total_stride)
                channels, total_stride = out_channels, total_stride * stride
                self.maps[f"block{number}"] = (channels, total_stride)
        self.head = ConvNormAct(channels, 1280, kernel=1, norm=norm, activation=nn.ReLU6, padding=padding)
        self.maps["head"] = (1280, total_stride)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes)
        initialize(self)

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename a state dict with EfficientNet-PyTorch's or timm's names into ours; None where it has others."""
        if "_conv_stem.weight" not in state:
            return timm_to_our_names(state)
        renamed = {}
        for key, value in state.items():
            if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
                key = f"blocks.{match[1]}.{PUBLISHED_UNITS.get(match[2], match[2])}.{match[3]}"
            else:
                unit, dot, what = key.partition(".")
                key = f"{PUBLISHED_OUTSIDE.get(unit, unit)}{dot}{what}"
            renamed[key] = value
        return renamed

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Every map by name, in the order of `maps`."""
        maps = feature_maps(self, images)
        maps["head"] = self.head(maps[f"block{len(self.blocks)}"])
        return maps

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(self.head(x))
