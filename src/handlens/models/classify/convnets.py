"""Two small convnets of the textbook: a plain one, and one with residual connections.

Source   Chollet 2021, "Deep Learning with Python", 2nd edition, sections 8.2 and 9.3.2.
Input    images (N, 3, H, W) float32, RGB, in [0, 1]. Plain: one size, 180 x 180 unless asked otherwise. Residual: any.
Output   logits (N, K); the source has one sigmoid for two classes, which is K = 1.
Size     one output: plain 991,041, residual 297,697 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.classify.staged import Flattening, StagedNet, check_counts, initialize_as_keras, sides

PLAIN = (32, 64, 128, 256, 256)
RESIDUAL = ((32, True), (64, True), (128, False))  # channels, with pooling


class SimpleConvNet(Flattening):
    """Five 3 x 3 convolutions without padding, max-pooling between them, and a classifier on all that is left.

    Raises:
        ValueError: an argument out of range, images too small; from forward: images of another size.
    """

    smallest = 78  # four poolings and five convolutions leave one place of it

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, image_size: int | Sequence[int] = 180, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.image_size = height, width = sides(image_size)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, PLAIN[0], 3), nn.ReLU())
        self.maps = {"stem": (PLAIN[0], 1)}
        self.blocks = nn.ModuleList()
        height, width = height - 2, width - 2
        for narrow, wide in pairwise(PLAIN):
            self.blocks.append(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(narrow, wide, 3), nn.ReLU()))
            number = len(self.blocks)
            self.maps[f"block{number}"] = (wide, 2**number)
            height, width = height // 2 - 2, width // 2 - 2
        if min(self.image_size) < self.smallest:
            raise ValueError(
                f"images of {self.image_size[0]} x {self.image_size[1]} pixels are too small: "
                f"at least {self.smallest} x {self.smallest} are needed"
            )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(PLAIN[-1] * height * width, num_classes)
        initialize_as_keras(self)

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with ReLU, max-pooling where asked for; the input is added by a 1 x 1 projection."""

    def __init__(self, in_channels: int, out_channels: int, *, pooling: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x).relu()).relu()
        if self.pooling:
            out = F.max_pool2d(out, 2, ceil_mode=True)
            # Every other place, then 1 x 1: the projection with stride 2. PyTorch 2.14's gradient of that, on 3 or 4
            # channels last and an odd number of images, writes beyond its memory (seen on a CPU with AVX-512).
            x = F.max_pool2d(x, 1, stride=2)
        return out + self.project(x)


class ResidualConvNet(StagedNet):
    """Three residual blocks, a mean and a linear classifier.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        channels, total_stride = in_channels, 1
        made = []
        for wider, pooling in RESIDUAL:
            made.append(ResidualBlock(channels, wider, pooling=pooling))
            channels = wider
        self.stem = made[0]
        self.blocks = nn.ModuleList(made[1:])
        self.maps = {}
        for name, (wider, pooling) in zip(("stem", "block1", "block2"), RESIDUAL, strict=True):
            total_stride *= 2 if pooling else 1
            self.maps[name] = (wider, total_stride)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        initialize_as_keras(self)
