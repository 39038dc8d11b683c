"""Nets cut behind the maps that a detector or a segmenter builds on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models.blocks import ConvNormAct
from handlens.models.classify.efficientnet_lite import EfficientNetLite0
from handlens.models.classify.mobilenet_v2 import InvertedResidual, MobileNetV2
from handlens.models.options import construct, nearest

BACKBONES: dict[str, Callable[..., MobileNetV2 | EfficientNetLite0]] = {
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
}


class Backbone(nn.Module):
    """The part of a net that makes the asked maps, and nothing behind it.

    forward: images (N, C, H, W) -> {name: map}, by the names asked for.

    Attributes:
        channels, strides: by the names asked for.
    """

    def __init__(self, net: MobileNetV2 | EfficientNetLite0, maps: Sequence[str]) -> None:
        super().__init__()
        if not maps:
            raise InputError(f"maps is empty; name at least one of {', '.join(net.maps)}.")
        self.names = {asked: resolve_map(asked, net.maps) for asked in maps}
        self.channels = {asked: net.maps[name][0] for asked, name in self.names.items()}
        self.strides = {asked: net.maps[name][1] for asked, name in self.names.items()}
        last = max(self.names.values(), key=list(net.maps).index)
        self.stem = net.stem
        self.blocks = net.blocks if last == "head" else net.blocks[: _block_number(last)]
        self.head = net.head if last == "head" else None
        self.cut = last.endswith(".expand")
        if self.cut:  # nothing behind the expansion: every parameter has a gradient
            block = self.blocks[-1]
            assert isinstance(block, InvertedResidual)
            self.blocks[-1] = block.expand

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)
        made = {"stem": x}
        for number, block in enumerate(self.blocks, start=1):
            if isinstance(block, InvertedResidual):
                expanded = made[f"block{number}.expand"] = block.expand(x)
                x = made[f"block{number}"] = block.finish(x, expanded)
            elif self.cut and number == len(self.blocks):
                made[f"block{number}.expand"] = block(x)
            else:
                x = made[f"block{number}"] = block(x)
        if self.head is not None:
            made["head"] = self.head(x)
        return {asked: made[name] for asked, name in self.names.items()}


def backbone(name: str, *, maps: Sequence[str] = ("s32",), output_stride: int = 32, **options: Any) -> Backbone:
    """A net cut behind the maps that are asked for.

    Args:
        maps: names as in `net.maps`, or "s2" to "s32" for the last block at that stride.
        output_stride: 32, 16 or 8; strides beyond it become dilations (Chen et al. 2017, arXiv:1706.05587).

    Raises:
        InputError: an unknown net, option or map.
        ValueError: another output stride, or blocks whose stride cannot be replaced.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    net = construct(name, BACKBONES, {"num_classes": 1, **options})
    if max(stride for _, stride in net.maps.values()) > output_stride:
        _dilate(net, output_stride)
    return Backbone(net, maps)


def resolve_map(asked: str, known: dict[str, tuple[int, int]]) -> str:
    """A name of `maps`, from itself or from "sN": the last block at stride N.

    Raises:
        InputError: no such map.
    """
    if asked in known:
        return asked
    if asked[:1] == "s" and asked[1:].isdigit():
        found = [name for name, (_, stride) in known.items() if stride == int(asked[1:]) and _is_block(name)]
        if found:
            return found[-1]
    raise InputError(f"there is no map {asked!r}; {nearest(asked, known)}.")


def _is_block(name: str) -> bool:
    return name.startswith("block") and not name.endswith(".expand")


def _block_number(name: str) -> int:
    """How many blocks a map needs: 0 for "stem", 14 for "block14" and "block14.expand"."""
    return 0 if name == "stem" else int(name.removeprefix("block").removesuffix(".expand"))


def _dilate(net: MobileNetV2 | EfficientNetLite0, output_stride: int) -> None:
    """Replace strides beyond `output_stride` by dilations of the convolutions behind them, and correct `maps`."""
    units = [module for module in net.modules() if isinstance(module, ConvNormAct)]
    ours = {unit.conv for unit in units}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and module not in ours and max(module.stride) > 1:
            raise ValueError(f"output_stride {output_stride} needs blocks made of ConvNormAct, but {name} is a Conv2d")
    stride = dilation = 1
    for unit in units:  # in the order they run
        own = unit.conv.stride[0]
        if stride * own > output_stride:
            unit.set_stride(1, dilation=dilation)
            dilation *= own
        else:
            unit.set_stride(own, dilation=dilation)
            stride *= own
    for name, (channels, published) in net.maps.items():
        net.maps[name] = (channels, min(published, output_stride))
