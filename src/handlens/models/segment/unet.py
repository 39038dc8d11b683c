"""U-Net: down to a sixteenth of the size and back up, each step up seeing the map of its size on the way down.

Source   Ronneberger et al. 2015, arXiv:1505.04597, section 2 and Figure 1.
Input    images (N, C, H, W) float32, normalized; any size.
Output   logits (N, K, H, W), at the input's size.
Size     1 channel, 2 classes: 31,030,658 parameters.
Differs  3 x 3 convolutions are padded, so that maps keep their size and nothing is cropped (the paper's 572 x 572
         becomes 388 x 388); sizes that are no multiple of 16 are padded inside and cropped back. Batch norm, dropout
         and another encoder are options.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.backbones import Backbone, strides
from handlens.models.backbones import backbone as cut
from handlens.models.blocks import ConvNormAct, initialize, mean_of_places
from handlens.models.segment.sizes import pad_to_multiple

CHANNELS = (64, 128, 256, 512, 1024)  # of the five levels: Figure 1
DECODER = (256, 128, 64, 32, 16)  # behind a backbone, from stride 16 to 1: as segmentation_models.pytorch has it


class TwoConvs(nn.Sequential):
    """Two 3 x 3 convolutions, each with ReLU; dropout between them."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool, dropout: float) -> None:
        super().__init__(
            _conv(in_channels, out_channels, batch_norm),
            nn.Dropout(dropout),
            _conv(out_channels, out_channels, batch_norm),
        )


class Contracting(nn.Module):
    """The paper's way down: images -> {"s1" ... "s16": map}, in the form of a `Backbone`."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.channels = {f"s{2**level}": count for level, count in enumerate(channels)}
        pairs = pairwise((in_channels, *channels))
        self.levels = nn.ModuleList(
            TwoConvs(before, after, batch_norm=batch_norm, dropout=dropout) for before, after in pairs
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [self.levels[0](images)]
        for level in self.levels[1:]:
            maps.append(level(self.pool(maps[-1])))
        return dict(zip(self.channels, maps, strict=True))

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D): the mean of the coarsest map over its places."""
        return mean_of_places(self(images)["s16"])


class Up(nn.Module):
    """A 2 x 2 transposed convolution that doubles the size, the map from the way down beside it, two convolutions."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, *, batch_norm: bool, dropout: float
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.convs = TwoConvs(out_channels + skip_channels, out_channels, batch_norm=batch_norm, dropout=dropout)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.up(x)
        if skip is not None and skip.shape[2:] != x.shape[2:]:  # a backbone that does not pad everywhere
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        joined: Tensor = self.convs(x if skip is None else torch.cat([skip, x], dim=1))
        return joined


class UNet(nn.Module):
    """A way down, a way up, and a 1 x 1 classifier.

    Args:
        num_classes: K.
        in_channels: of the images.
        backbone: a name of `backbones.BACKBONES` as the way down, for pretrained weights; None is the paper's own.
        width: multiplies the channels of every level that is our own, the paper's and those on the way up.
        batch_norm: behind every 3 x 3 convolution of our own, in place of its bias. With a backbone it should be on.
        dropout: share of numbers dropped between the two 3 x 3 convolutions of every pair.

    Raises:
        InputError: no such backbone.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        backbone: str | None = None,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 1 or in_channels < 1:
            raise ValueError(f"num_classes and in_channels must be at least 1, got {num_classes} and {in_channels}")
        if not 0 < width <= 4:
            raise ValueError(f"width must be in (0, 4], got {width}")
        channels = tuple(max(1, round(count * width)) for count in CHANNELS)
        outputs = channels[-2::-1] if backbone is None else tuple(max(1, round(count * width)) for count in DECODER)
        self.backbone: Contracting | Backbone
        if backbone is None:
            self.backbone = Contracting(in_channels, channels, batch_norm=batch_norm, dropout=dropout)
            initialize(self.backbone)
        else:
            known = [stride for stride in strides(backbone) if 1 < stride <= 2 ** len(outputs)]
            self.backbone = cut(backbone, maps=[f"s{stride}" for stride in known], in_channels=in_channels)
            outputs = outputs[-(known[-1].bit_length() - 1) :]  # from half of the coarsest map's stride to 1
        self.multiple = 2 ** len(outputs)
        below = list(self.backbone.channels.values())[-1]
        self.levels = [f"s{2**level}" for level in reversed(range(len(outputs)))]
        self.ups = nn.ModuleList()
        for level, output in zip(self.levels, outputs, strict=True):  # some have no map at stride 2, none at 1
            skip = self.backbone.channels.get(level, 0)
            self.ups.append(Up(below, skip, output, batch_norm=batch_norm, dropout=dropout))
            below = output
        self.classifier = nn.Conv2d(below, num_classes, 1)
        initialize(self.ups)
        initialize(self.classifier)

    def forward(self, images: Tensor) -> Tensor:
        padded = pad_to_multiple(images, self.multiple)
        maps = self.backbone(padded)
        x = list(maps.values())[-1]
        for level, up in zip(self.levels, self.ups, strict=True):
            x = up(x, maps.get(level))
        logits: Tensor = self.classifier(x)
        if logits.shape[2:] != padded.shape[2:]:
            logits = F.interpolate(logits, size=padded.shape[2:], mode="bilinear", align_corners=False)
        return logits[:, :, : images.shape[2], : images.shape[3]]

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D), of the way down."""
        return self.backbone.embed(pad_to_multiple(images, self.multiple))


def _conv(in_channels: int, out_channels: int, batch_norm: bool) -> nn.Module:
    if batch_norm:
        return ConvNormAct(in_channels, out_channels, activation=nn.ReLU)
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU())
