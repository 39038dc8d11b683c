"""Nets cut behind the maps that a detector or a segmenter builds on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models.blocks import ConvNormAct
from handlens.models.classify.alexnet import AlexNet
from handlens.models.classify.convnets import ResidualConvNet
from handlens.models.classify.efficientnet_lite import EfficientNetLite0
from handlens.models.classify.googlenet import GoogLeNet
from handlens.models.classify.mobilenet_v1 import MobileNetV1
from handlens.models.classify.mobilenet_v2 import InvertedResidual, MobileNetV2
from handlens.models.classify.resnet import STAGES, ResNet
from handlens.models.classify.vgg import CONVOLUTIONS, VGG
from handlens.models.classify.xception import MiniXception, Xception
from handlens.models.options import construct, nearest

# Every classifier that takes pictures of any size.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
    "alexnet": AlexNet,
    **{f"vgg{depth}": partial(VGG, depth=depth) for depth in CONVOLUTIONS},
    **{f"vgg{depth}_bn": partial(VGG, depth=depth, batch_norm=True) for depth in CONVOLUTIONS},
    "googlenet": GoogLeNet,
    **{f"resnet{depth}": partial(ResNet, depth=depth) for depth in STAGES},
    "mobilenet_v1": MobileNetV1,
    "residual_convnet": ResidualConvNet,
    "mini_xception": MiniXception,
    "xception": Xception,
}


class Backbone(nn.Module):
    """The part of a net that makes the asked maps, and nothing behind it.

    forward: images (N, C, H, W) -> {name: map}, by the names asked for.

    Attributes:
        channels, strides: by the names asked for.
    """

    def __init__(self, net: Any, maps: Sequence[str]) -> None:
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
    net: Any = construct(name, BACKBONES, {"num_classes": 1, **options})
    if max(stride for _, stride in net.maps.values()) > output_stride:
        _dilate(net, output_stride)
    return Backbone(net, maps)


def resolve_map(asked: str, known: dict[str, tuple[int, int]]) -> str:
    """A name of `maps`, from itself or from "sN": the last block at stride N, or the stem where no block has it.

    Raises:
        InputError: no such map.
    """
    if asked in known:
        return asked
    if asked[:1] == "s" and asked[1:].isdigit():
        found = [name for name, (_, stride) in known.items() if stride == int(asked[1:]) and _is_block(name)]
        if found:
            return found[-1]
        if "stem" in known and known["stem"][1] == int(asked[1:]):
            return "stem"
    raise InputError(f"there is no map {asked!r}; {nearest(asked, known)}.")


def _is_block(name: str) -> bool:
    return name.startswith("block") and not name.endswith(".expand")


def _block_number(name: str) -> int:
    """How many blocks a map needs: 0 for "stem", 14 for "block14" and "block14.expand"."""
    return 0 if name == "stem" else int(name.removeprefix("block").removesuffix(".expand"))


def _dilate(net: Any, output_stride: int) -> None:
    """Replace strides beyond `output_stride` by dilations of the convolutions behind them, and correct `maps`.

    A block goes on along its branches: behind the convolution that lost its stride, each sees a grid that is finer.
    """
    parts = {"stem": net.stem, **{f"block{number}": block for number, block in enumerate(net.blocks, start=1)}}
    before = stride = dilation = 1
    for name, part in parts.items():
        own, before = net.maps[name][1] // before, net.maps[name][1]
        removed = stride * own > output_stride
        if removed:
            _check_units(part, name, output_stride)
        inside = dilation
        for unit in (module for module in part.modules() if isinstance(module, ConvNormAct)):  # in the order they run
            if removed and unit.conv.stride[0] > 1:
                unit.set_stride(1, dilation=dilation)
                inside = dilation * own
            elif dilation > 1 or inside > 1:
                unit.set_stride(unit.conv.stride[0], dilation=inside)
        if removed:
            dilation *= own
        else:
            stride *= own
    for name, (channels, published) in net.maps.items():
        net.maps[name] = (channels, min(published, output_stride))


def _check_units(part: nn.Module, name: str, output_stride: int) -> None:
    """
    Raises:
        ValueError: something strides in it that is no ConvNormAct.
    """
    ours = {unit.conv for unit in part.modules() if isinstance(unit, ConvNormAct)}
    for module in part.modules():
        striding = isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and module not in ours
        if striding and module.stride not in (1, (1, 1)):
            raise ValueError(
                f"output_stride {output_stride} needs blocks that stride in a ConvNormAct, and {name} has a "
                f"{type(module).__name__}"
            )
