"""DeepLabv3: a class per pixel from one map of a classifier whose last strides became dilations.

Source   Chen et al. 2017, arXiv:1706.05587, section 3; on MobileNetV2 as in Sandler et al. 2018, arXiv:1801.04381,
         section 6.3: the 320-channel map, and without the atrous branches unless asked for. The decoder, where asked
         for, is that of DeepLabv3+: Chen et al. 2018, arXiv:1802.02611, section 3.1.
Input    images (N, 3, H, W) float32, RGB, normalized; any size, 513 x 513 in the papers.
Output   logits (N, K, H, W), at the input's size.
Size     on MobileNetV2, 21 classes, output stride 16: 2,113,557 parameters, with ASPP 4,523,541; at 513 x 513
         2.74 and 5.36 B multiply-adds. The paper prints 2.75 and 5.8: TensorFlow runs a dilated convolution on a map
         padded to a multiple of the dilation, 36 x 36 here where 33 x 33 are needed, which costs 0.46 B more.
Differs  torchvision's DeepLabv3 has one more 3 x 3 convolution before the classifier; the paper and we do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models.backbones import backbone as cut
from handlens.models.backbones import strides
from handlens.models.blocks import ConvNormAct, Padding, initialize, norm_state

CHANNELS = 256  # of every branch: Chen et al. 2017, section 3.3
FINE_CHANNELS = 48  # of the map at stride 4, before it meets the coarse one: Chen et al. 2018, section 4.1
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # dilations of the atrous branches by output stride: section 3.3


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 branch, a 3x3 branch per rate, and the mean of the whole map.

    forward: (N, C, h, w) -> (N, 256, h, w). Without rates it is the head of the MobileNetV2 paper.
    In training, the batch norm behind the mean needs at least two images.

    Source: Chen et al. 2017, section 3.3.
    """

    def __init__(self, in_channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_unit(in_channels, kernel=1)])
        self.branches.extend(_unit(in_channels, kernel=3, dilation=rate) for rate in rates)
        self.pooled = _unit(in_channels, kernel=1)
        self.project = _unit(CHANNELS * (len(rates) + 2), kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        mean = self.pooled(x.mean(dim=(2, 3), keepdim=True))  # (N, 256, 1, 1): what the whole image is of
        everywhere = F.interpolate(mean, size=maps[0].shape[2:], mode="nearest")  # LiteRT has no general broadcast
        projected: Tensor = self.project(torch.cat([*maps, everywhere], dim=1))
        return projected


class Decoder(nn.Module):
    """Edges and thin things from the map at stride 4: it and the coarse map, refined together.

    forward: fine (N, C, h, w), coarse (N, 256, any, any) -> (N, channels, h, w).

    Source: Chen et al. 2018, section 3.1, with the separable convolutions of section 3.2.
    """

    def __init__(self, fine_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = _unit(fine_channels, FINE_CHANNELS, kernel=1)
        self.refine = nn.Sequential(
            *_separable(CHANNELS + FINE_CHANNELS, channels),
            *_separable(channels, channels),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        refined: Tensor = self.refine(torch.cat([coarse, self.reduce(fine)], dim=1))
        return refined


class DeepLabV3(nn.Module):
    """A backbone, ASPP on its last map, a decoder where asked for, and a linear classifier per pixel.

    Args:
        num_classes: K.
        backbone: a name of `backbones.BACKBONES`.
        output_stride: 16, or 8 for a map twice as fine at about three times the cost.
        aspp: with the atrous branches; without, as the MobileNetV2 paper, the 1x1 branch and the mean alone.
        decoder: channels of the decoder, 256 in its paper; 0 is without.
        width, round_to: of the backbone, as MobileNetV2 has them; None is its own.
        in_channels: of the images.
        dropout: before the classifier.
        padding: of the backbone; None is its own, "same" is for weights that come from TensorFlow.
        align_corners: upsample the logits so that the centers of the corner pixels of both maps coincide, as
            TensorFlow's DeepLab does. It fits sizes that are a multiple of the output stride plus one; at others the
            classes shift more the farther right and down they lie. Without it they shift alike everywhere, which is
            learned.

    Raises:
        InputError: no such backbone, or one without this width.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str = "mobilenet_v2",
        output_stride: int = 16,
        aspp: bool = False,
        decoder: int = 0,
        width: float | None = None,
        round_to: int | None = None,
        in_channels: int = 3,
        dropout: float = 0.0,
        padding: Padding | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if output_stride not in RATES:
            raise ValueError(f"output_stride must be one of {', '.join(map(str, RATES))}, got {output_stride}")
        if decoder < 0:
            raise ValueError(f"decoder must be a number of channels, or 0, got {decoder}")
        options: dict[str, Any] = {"width": width, "round_to": round_to, "padding": padding}
        options = {"in_channels": in_channels} | {key: value for key, value in options.items() if value is not None}
        last = f"s{output_stride}"
        fine = "s4" if decoder and 4 in strides(backbone) else "stem"  # GoogLeNet's stem ends at stride 8
        maps = (last, fine) if decoder else (last,)
        self.backbone = cut(backbone, maps=maps, output_stride=output_stride, **options)
        self.aspp = ASPP(self.backbone.channels[last], RATES[output_stride] if aspp else ())
        self.decoder = Decoder(self.backbone.channels[fine], decoder) if decoder else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(decoder or CHANNELS, num_classes, 1)
        self.align_corners = align_corners
        for part in (self.aspp, self.decoder, self.classifier):
            if part is not None:
                initialize(part)

    def forward(self, images: Tensor) -> Tensor:
        coarse, *fine = self.backbone(images).values()
        x = self.aspp(coarse)
        if self.decoder is not None:
            x = self.decoder(*fine, x)
        logits = self.classifier(self.dropout(x))
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=self.align_corners)

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D), of the backbone."""
        return self.backbone.embed(images)

    def with_new_head(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
        """As `loading.with_new_head`; fresh are the classifier, and each part behind the backbone that differs."""
        wanted = {key: value for key, value in self.state_dict().items() if not key.endswith(".num_batches_tracked")}
        if "classifier.bias" not in weights:
            return dict(weights), None  # strict loading lists what is missing
        fresh = [
            part
            for part in ("aspp", "decoder", "classifier")
            if any(key not in weights or weights[key].shape != wanted[key].shape for key in wanted if _in(key, part))
        ]
        if not fresh:
            return dict(weights), None
        kept = {key: value for key, value in weights.items() if not any(_in(key, part) for part in fresh)}
        new = {key: value for key, value in wanted.items() if any(_in(key, part) for part in fresh)}
        if fresh == ["classifier"]:
            counts = len(weights["classifier.bias"]), len(wanted["classifier.bias"])
            return kept | new, "The pretrained classifier of {} outputs was replaced by a new one of {}.".format(
                *counts
            )
        return kept | new, f"Replaced by new layers: {', '.join(fresh)}; all others are pretrained."

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Constants of TensorFlow's DeepLabv3 on MobileNetV2, from a TensorFlow Lite file or a TensorFlow.js package ->
        the state of ours with 21 classes and SAME padding; None where they have other names.

        Batch norm that was folded into a convolution comes back as one that only adds, one that stands behind it with
        its factor. So the function is the published one. The mean of the map stands first in the published
        concatenation and last in ours.

        Raises:
            InputError: a constant is missing: another model.
        """
        if "logits/semantic/weights" not in state:
            return None
        unit = _folded if "logits/semantic/Conv2D_bias" in state else _scaled
        ours: dict[str, Tensor] = {}
        try:
            ours |= unit("backbone.stem", state, "MobilenetV2/Conv")
            for number in range(17):
                block, theirs = (
                    f"backbone.blocks.{number}",
                    f"MobilenetV2/expanded_conv{f'_{number}' if number else ''}",
                )
                ours |= unit(f"{block}.expand", state, f"{theirs}/expand") if number else {}
                ours |= unit(f"{block}.depthwise", state, f"{theirs}/depthwise")
                ours |= unit(f"{block}.project", state, f"{theirs}/project")
            ours |= unit("aspp.branches.0", state, "aspp0")
            ours |= unit("aspp.pooled", state, "image_pooling")
            ours |= unit("aspp.project", state, "concat_projection")
            mean, branch = ours["aspp.project.conv.weight"].chunk(2, dim=1)
            ours["aspp.project.conv.weight"] = torch.cat([branch, mean], dim=1)
            weight = state["logits/semantic/weights"]
            if unit is _folded:
                ours["classifier.weight"] = weight.permute(0, 3, 1, 2)
                ours["classifier.bias"] = state["logits/semantic/Conv2D_bias"]
            else:
                ours["classifier.weight"] = weight.permute(3, 2, 0, 1)
                ours["classifier.bias"] = state["logits/semantic/biases"]
        except KeyError as error:
            raise InputError(f"this is not DeepLabv3 on MobileNetV2: it has no {error}.") from None
        return ours


def _in(key: str, part: str) -> bool:
    return key.startswith(f"{part}.")


def _folded(ours: str, state: Mapping[str, Tensor], theirs: str) -> dict[str, Tensor]:
    """TensorFlow Lite's: batch norm was multiplied into each convolution."""
    if f"{theirs}/depthwise_weights" in state:
        weight = state[f"{theirs}/depthwise_weights"].permute(3, 0, 1, 2)  # (1, k, k, C) -> (C, 1, k, k)
        shift = state[f"{theirs}/depthwise_bias"]
    else:
        weight = state[f"{theirs}/weights"].permute(0, 3, 1, 2)  # (out, k, k, in) -> (out, in, k, k)
        shift = state[f"{theirs}/Conv2D_bias"]
    return {f"{ours}.conv.weight": weight} | norm_state(f"{ours}.norm", shift=shift)


def _scaled(ours: str, state: Mapping[str, Tensor], theirs: str) -> dict[str, Tensor]:
    """TensorFlow.js's: batch norm was multiplied into each convolution but the depthwise ones, which keep a factor."""
    norm = f"{theirs}/BatchNorm/FusedBatchNorm"
    if f"{theirs}/depthwise_weights" in state:
        weight = state[f"{theirs}/depthwise_weights"].permute(2, 3, 0, 1)  # (k, k, C, 1) -> (C, 1, k, k)
        scale = state[f"{norm}/Scaled"]
    else:
        weight, scale = state[f"{theirs}/Conv2D/merged_input"].permute(3, 2, 0, 1), None  # (k, k, in, out)
    return {f"{ours}.conv.weight": weight} | norm_state(f"{ours}.norm", shift=state[f"{norm}/Offset"], scale=scale)


def _unit(
    in_channels: int, channels: int = CHANNELS, *, kernel: int, dilation: int = 1, groups: int = 1
) -> ConvNormAct:
    return ConvNormAct(in_channels, channels, kernel=kernel, dilation=dilation, groups=groups, activation=nn.ReLU)


def _separable(in_channels: int, channels: int) -> tuple[ConvNormAct, ConvNormAct]:
    return _unit(in_channels, in_channels, kernel=3, groups=in_channels), _unit(in_channels, channels, kernel=1)
