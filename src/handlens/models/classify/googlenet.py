"""GoogLeNet: Inception modules, with auxiliary classifiers while it learns.

Source   Szegedy et al. 2014, arXiv:1409.4842, Table 1 and section 5.
Input    images (N, 3, H, W) float32, RGB, normalized; any size from 32 x 32.
Output   logits (N, K); `with_auxiliary` gives those of all three classifiers, which training learns from.
Size     1000 classes, without auxiliary heads: 6,624,904 parameters with 3 x 3 in the third branch, as the published
         weights; 7,005,832 with 5 x 5; 6,998,552 with 5 x 5, biases and no batch norm: the paper's own.
Differs  Batch norm (Ioffe and Szegedy 2015) unless switched off; without it, responses are normalized over neighboring
         channels as in the paper, which gives no constants for it: those of Krizhevsky et al. 2012, section 3.3. With
         3 x 3 in the third branch the last max-pooling is over 2 x 2: the published weights expect both. The auxiliary
         heads pool to 4 x 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import initialize
from handlens.models.classify.staged import StagedNet, check_counts

AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss, section 5
AUXILIARY_DROPOUT = 0.7


class Row(NamedTuple):
    """Channels of the four branches of a module: a row of Table 1."""

    one: int
    reduce_three: int
    three: int
    reduce_five: int
    five: int
    pooled: int

    @property
    def channels(self) -> int:
        return self.one + self.three + self.five + self.pooled


GROUPS = (  # 3a to 3b, 4a to 4e, 5a to 5b; max-pooling between the groups
    (Row(64, 96, 128, 16, 32, 32), Row(128, 128, 192, 32, 96, 64)),
    (
        Row(192, 96, 208, 16, 48, 64),
        Row(160, 112, 224, 24, 64, 64),
        Row(128, 128, 256, 24, 64, 64),
        Row(112, 144, 288, 32, 64, 64),
        Row(256, 160, 320, 32, 128, 128),
    ),
    (Row(256, 160, 320, 32, 128, 128), Row(384, 192, 384, 48, 128, 128)),
)
AUXILIARY_AFTER = (3, 6)  # blocks: 4a and 4d

# torchvision's name -> our layer.
PUBLISHED_OUTSIDE = {"conv1": "stem.0", "conv2": "stem.2", "conv3": "stem.3", "fc": "classifier"}
PUBLISHED_BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
POOLED_BEFORE = ("4a", "5a")  # where ours have the max-pooling in the block
PUBLISHED_BRANCHES = {"branch1": "one", "branch2": "three", "branch3": "five", "branch4": "pooled"}
PUBLISHED_AUXILIARY = {"fc1": "hidden", "fc2": "classifier"}


class ConvAct(nn.Module):
    """A convolution, batch norm where asked for (a bias where not), and ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=not batch_norm
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side, stacked: 1x1; 1x1 and 3x3; 1x1 and a larger kernel; max-pooling and 1x1.

    Source: section 4, Figure 2(b).
    """

    def __init__(self, in_channels: int, row: Row, *, kernel: int, batch_norm: bool) -> None:
        super().__init__()
        unit = partial(ConvAct, batch_norm=batch_norm)
        self.one = unit(in_channels, row.one, 1)
        self.three = nn.Sequential(unit(in_channels, row.reduce_three, 1), unit(row.reduce_three, row.three, 3))
        self.five = nn.Sequential(unit(in_channels, row.reduce_five, 1), unit(row.reduce_five, row.five, kernel))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(in_channels, row.pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], dim=1)


class Auxiliary(nn.Module):
    """A classifier on a map in the middle: (N, C, h, w) -> logits (N, K). Source: section 5."""

    def __init__(self, in_channels: int, num_classes: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.conv = ConvAct(in_channels, 128, 1, batch_norm=batch_norm)
        self.hidden = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(AUXILIARY_DROPOUT)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        logits: Tensor = self.classifier(self.dropout(self.hidden(x).relu()))
        return logits


class GoogLeNet(StagedNet):
    """Three convolutions, nine Inception modules, a mean and a linear classifier.

    Args:
        kernel: of the third branch: 3 as the published weights have it, or the paper's 5; with it goes the size of the
            last max-pooling, 2 or 3.
        batch_norm: False is the paper's form, with biases.
        auxiliary: with the two heads that only training uses.

    Raises:
        ValueError: an argument out of range; from forward: images below 32 pixels a side.
    """

    smallest = 32

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        kernel: int = 3,
        batch_norm: bool = True,
        auxiliary: bool = False,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        if kernel not in (3, 5):
            raise ValueError(f"kernel must be 3 or 5, got {kernel}")
        unit = partial(ConvAct, batch_norm=batch_norm)

        def normalize() -> list[nn.Module]:
            return [] if batch_norm else [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)]

        self.stem = nn.Sequential(
            unit(in_channels, 64, 7, stride=2),
            _halve(),
            *normalize(),
            unit(64, 64, 1),
            unit(64, 192, 3),
            *normalize(),
            _halve(),
        )
        self.maps = {"stem": (192, 8)}
        self.blocks = nn.ModuleList()
        channels = 192
        for group, rows in enumerate(GROUPS):
            for place, row in enumerate(rows):
                module = Inception(channels, row, kernel=kernel, batch_norm=batch_norm)
                first_of_later_group = group > 0 and place == 0
                pooling = _halve(2 if group == 2 and kernel == 3 else 3)
                self.blocks.append(nn.Sequential(pooling, module) if first_of_later_group else module)
                channels = row.channels
                self.maps[f"block{len(self.blocks)}"] = (channels, 8 * 2**group)
        self.auxiliary = nn.ModuleList(
            Auxiliary(self.maps[f"block{number}"][0], num_classes, batch_norm=batch_norm)
            for number in AUXILIARY_AFTER
            if auxiliary
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self)

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename a state dict with torchvision's names into ours; None where it has others."""
        if "inception3a.branch1.conv.weight" not in state:
            return None
        renamed = {}
        for key, value in state.items():
            key = key.replace(".bn.", ".norm.")
            if match := re.fullmatch(r"inception(\w\w)\.(branch\d)\.(.*)", key):
                name, branch, rest = match.groups()
                block = f"blocks.{PUBLISHED_BLOCKS.index(name)}{'.1' if name in POOLED_BEFORE else ''}"
                key = f"{block}.{PUBLISHED_BRANCHES[branch]}.{rest}"
            elif match := re.fullmatch(r"aux([12])\.(\w+)\.(.*)", key):
                key = f"auxiliary.{int(match[1]) - 1}.{PUBLISHED_AUXILIARY.get(match[2], match[2])}.{match[3]}"
            elif (part := key.partition("."))[0] in PUBLISHED_OUTSIDE:
                key = f"{PUBLISHED_OUTSIDE[part[0]]}.{part[2]}"
            renamed[key] = value
        return renamed

    def with_auxiliary(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """(weight of its loss, logits (N, K)) of the classifier, then of each auxiliary head."""
        made = self.features(images)
        last = made[f"block{len(self.blocks)}"]
        answers = [(1.0, self.classifier(self.dropout(self.pool(last))))]
        heads = zip(AUXILIARY_AFTER, self.auxiliary, strict=False)
        return answers + [(AUXILIARY_WEIGHT, head(made[f"block{number}"])) for number, head in heads]


def _halve(kernel: int = 3) -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)
