"""MobileNetV1: depthwise separable convolutions; and a small form for 28 x 28 digits.

Source   Howard et al. 2017, arXiv:1704.04861, Table 1.
Input    images (N, 3, H, W) float32, RGB, normalized; any size. The small form: gray 28 x 28, one size.
Output   logits (N, K).
Size     width 1.0, 1000 classes: 4,231,976 parameters, 568.7 M multiply-adds at 224 x 224. The small form, 10 classes:
         8,756,682, of which 8,028,170 in its classifier.
Differs  Table 1 gives the last depthwise convolution stride 2 on a 7 x 7 map that stays 7 x 7: stride 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct, Padding, initialize, round_channels
from handlens.models.classify.staged import Flattening, StagedNet, check_counts, check_width, sides

# Table 1: output channels and stride of each depthwise separable convolution.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
SMALL_CHANNELS = (32, 64, 128, 256, 512, 1024)


class Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution, each with batch norm and ReLU.

    Args:
        act_between: False leaves the ReLU between the two out.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, act_between: bool, padding: Padding
    ) -> None:
        super().__init__()
        between = nn.ReLU if act_between else None
        self.depthwise = ConvNormAct(
            in_channels, in_channels, stride=stride, groups=in_channels, activation=between, padding=padding
        )
        self.pointwise = ConvNormAct(in_channels, out_channels, kernel=1, activation=nn.ReLU, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class MobileNetV1(StagedNet):
    """A stem, thirteen depthwise separable convolutions, a mean and a linear classifier.

    Args:
        width: multiplies the channels of every layer.
        act_between: a ReLU between each depthwise and its pointwise convolution.
        round_to: channels are multiples of this.
        padding: "same" for weights that come from TensorFlow.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        width: float = 1.0,
        in_channels: int = 3,
        dropout: float = 1e-3,
        act_between: bool = True,
        round_to: int = 8,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, round_to=round_to)
        check_width(width)
        channels, total_stride = round_channels(32 * width, to=round_to), 2
        self.stem = ConvNormAct(in_channels, channels, stride=2, activation=nn.ReLU, padding=padding)
        self.maps = {"stem": (channels, total_stride)}
        self.blocks = nn.ModuleList()
        for full_width, stride in BLOCKS:
            out_channels = round_channels(full_width * width, to=round_to)
            self.blocks.append(
                Separable(channels, out_channels, stride=stride, act_between=act_between, padding=padding)
            )
            channels, total_stride = out_channels, total_stride * stride
            self.maps[f"block{len(self.blocks)}"] = (channels, total_stride)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self)


class ActFirst(nn.Module):
    """A convolution with bias, then ReLU, then batch norm: the order of the small form."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x).relu())
        return out


class SmallMobileNetV1(Flattening):
    """A stem, then a pointwise and a depthwise convolution five times, no stride anywhere, and a classifier on all.

    It is in circulation under MobileNet's name: pointwise first, ReLU before batch norm, nothing pooled.

    Raises:
        ValueError: an argument out of range; from forward: images of another size.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int = 1, image_size: int | Sequence[int] = 28, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.image_size = sides(image_size)
        self.stem = ActFirst(in_channels, SMALL_CHANNELS[0], 3)
        self.maps = {"stem": (SMALL_CHANNELS[0], 1)}
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(SMALL_CHANNELS):
            self.blocks.append(nn.Sequential(ActFirst(narrow, wide, 1), ActFirst(wide, wide, 3, groups=wide)))
            self.maps[f"block{len(self.blocks)}"] = (wide, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(SMALL_CHANNELS[-1] * self.image_size[0] * self.image_size[1], num_classes)
        initialize(self)

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1)
