"""DeepLabv3: a class per pixel from one map of a classifier whose last strides became dilations.

Source   Chen et al. 2017, arXiv:1706.05587; on MobileNetV2 as in Sandler et al. 2018, arXiv:1801.04381, section 6.3.
Input    images (N, 3, H, W) float32, RGB, normalised; any size of at least 33 pixels, 513 x 513 in the papers.
Output   logits (N, K, H, W), at the input's size.
Size     on MobileNetV2, 21 classes: 2,113,557 parameters, with ASPP 4,523,541; 2.75 and 5.8 B multiply-adds at 513 and
         output stride 16.
Differs  Dropout, which the authors' configuration for MobileNetV2 has switched off, is an option.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.backbones import backbone as cut
from handlens.models.blocks import ConvNormAct, initialise

CHANNELS = 256  # of every branch: Chen et al. 2017, section 3.3
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # dilations of the three atrous branches, by output stride: section 3.3


class DeepLabV3(nn.Module):
    """A backbone, branches that see more and more of its last map, and a linear classifier per pixel.

    Args:
        backbone: a name of `models.backbones`.
        output_stride: 16, or 8 for a map twice as fine at about four times the cost.
        aspp: with the three atrous branches; without, as the MobileNetV2 paper, a 1x1 branch and the picture's mean.
        dropout: before the classifier.

    Raises:
        ValueError: another output stride.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str = "mobilenet_v2",
        output_stride: int = 16,
        aspp: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if output_stride not in RATES:
            raise ValueError(f"output_stride must be one of {', '.join(map(str, RATES))}, got {output_stride}")
        self.backbone = cut(backbone, maps=(f"s{output_stride}",), output_stride=output_stride)
        channels = next(iter(self.backbone.channels.values()))
        rates = RATES[output_stride] if aspp else ()
        self.branches = nn.ModuleList([_branch(channels, CHANNELS, kernel=1)])
        self.branches.extend(_branch(channels, CHANNELS, kernel=3, dilation=rate) for rate in rates)
        self.pooled = _branch(channels, CHANNELS, kernel=1)
        self.project = _branch(CHANNELS * (len(self.branches) + 1), CHANNELS, kernel=1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(CHANNELS, num_classes, 1)
        for part in (self.branches, self.pooled, self.project, self.classifier):
            initialise(part)

    def forward(self, images: Tensor) -> Tensor:
        (x,) = self.backbone(images).values()
        maps = [branch(x) for branch in self.branches]
        mean = self.pooled(x.mean(dim=(2, 3), keepdim=True))  # what the whole picture is of
        x = self.project(torch.cat([mean.expand_as(maps[0]), *maps], dim=1))
        logits = self.classifier(self.dropout(x))
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)


def _branch(in_channels: int, out_channels: int, *, kernel: int, dilation: int = 1) -> ConvNormAct:
    return ConvNormAct(in_channels, out_channels, kernel=kernel, dilation=dilation, activation=nn.ReLU)
