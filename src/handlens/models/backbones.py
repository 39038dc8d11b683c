"""Nets cut behind the maps that a detector or a segmenter builds on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from handlens.errors import InputError, nearest
from handlens.models.blocks import ConvNormAct, PoolEverywhere, mean_of_places
from handlens.models.classify.alexnet import AlexNet
from handlens.models.classify.convnets import ResidualConvNet
from handlens.models.classify.efficientnet_lite import EfficientNetLite0
from handlens.models.classify.googlenet import GoogLeNet
from handlens.models.classify.mobilenet_v1 import MobileNetV1
from handlens.models.classify.mobilenet_v2 import InvertedResidual, MobileNetV2
from handlens.models.classify.resnet import STAGES, ResNet
from handlens.models.classify.staged import PoolSame
from handlens.models.classify.vgg import CONVOLUTIONS, VGG
from handlens.models.classify.xception import MiniXception, Xception
from handlens.models.options import construct

# Every classifier that takes images of any size.
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

BEHIND_BLOCKS = ("classifier.", "hidden", "auxiliary.")  # parts of a classifier that no other task has a use for


class Backbone(nn.Module):
    """The part of a net that makes the asked maps, and nothing behind it.

    forward: images (N, C, H, W) -> {name: map}, by the names asked for.

    Attributes:
        channels, strides: by the names asked for.
        deepest: of these names the map that is made last.
    """

    def __init__(self, net: Any, maps: Sequence[str]) -> None:
        super().__init__()
        if not maps:
            raise InputError(f"maps is empty; give at least one of {', '.join(net.maps)}.")
        self.names = {asked: resolve_map(asked, net.maps) for asked in maps}
        self.channels = {asked: net.maps[name][0] for asked, name in self.names.items()}
        self.strides = {asked: net.maps[name][1] for asked, name in self.names.items()}
        self.deepest = max(self.names, key=lambda asked: list(net.maps).index(self.names[asked]))
        last = self.names[self.deepest]
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

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D): the mean of the deepest map over its places."""
        return mean_of_places(self(images)[self.deepest])

    def part_of(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
        """A whole classifier's weights by the names that they have here, and the parts that are not here."""
        kept, left = {}, set()
        last = f"blocks.{len(self.blocks) - 1}."
        for key, value in weights.items():
            match = re.fullmatch(r"blocks\.(\d+)\..*", key)
            behind = match is not None and int(match[1]) >= len(self.blocks)
            if self.cut and key.startswith(last):  # of its last block a cut backbone has the expansion, by itself
                behind = not key.startswith(f"{last}expand.")
                key = key.replace(".expand.", ".")
            if behind or key.startswith(BEHIND_BLOCKS) or (key.startswith("head.") and self.head is None):
                left.add("blocks" if match else key.partition(".")[0])
            else:
                kept[key] = value
        return kept, left


def backbone(name: str, *, maps: Sequence[str] = ("s32",), output_stride: int = 32, **options: Any) -> Backbone:
    """A net cut behind the maps that are asked for.

    Args:
        maps: names as in `net.maps`, or "s2" to "s32" for the last block at that stride.
        output_stride: 32, 16 or 8; strides beyond it become dilations (Chen et al. 2017, arXiv:1706.05587).

    Raises:
        InputError: an unknown net, option or map.
        ValueError: another output stride, or a layer whose stride cannot become a dilation.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    net: Any = construct(name, BACKBONES, {"num_classes": 1, **options})
    if max(stride for _, stride in net.maps.values()) > output_stride:
        _dilate(net, output_stride)
    return Backbone(net, maps)


def strides(name: str) -> list[int]:
    """Of the maps that a net has, ascending: [2, 4, 8, 16, 32] of most.

    Raises:
        InputError: no such net.
    """
    with torch.device("meta"):
        net: Any = construct(name, BACKBONES, {"num_classes": 1})
    return sorted({stride for _, stride in net.maps.values()})


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
    raise InputError(f"unknown map {asked!r}; {nearest(asked, known)}.")


def _is_block(name: str) -> bool:
    return name.startswith("block") and not name.endswith(".expand")


def _block_number(name: str) -> int:
    """How many blocks a map needs: 0 for "stem", 14 for "block14" and "block14.expand"."""
    return 0 if name == "stem" else int(name.removeprefix("block").removesuffix(".expand"))


def _dilate(net: Any, output_stride: int) -> None:
    """Replace strides beyond `output_stride` by dilations of the layers behind them, and correct `maps`.

    Weights stay as they are, and every 2nd or 4th place of the finer map sees what the coarse map saw. A block goes on
    along its branches: behind the layer that lost its stride, each sees a grid that is finer.

    Raises:
        ValueError: a block strides in a layer whose stride cannot be replaced.
    """
    before = stride = dilation = 1
    for name, container, key in [
        ("stem", net, "stem"),
        *((f"block{number}", net.blocks, str(number - 1)) for number in range(1, len(net.blocks) + 1)),
    ]:
        own, before = net.maps[name][1] // before, net.maps[name][1]
        removed = stride * own > output_stride
        inside = dilation
        for parent, place, layer in list(_layers(container, key)):  # in the order they run
            strides = _stride(layer) > 1
            if removed and strides:
                _set_stride(parent, place, 1, dilation=dilation, name=name)
                inside = dilation * own
            elif dilation > 1 or inside > 1:
                _set_stride(parent, place, _stride(layer), dilation=inside, name=name)
        if removed:
            dilation *= own
        else:
            stride *= own
    for name, (channels, published) in net.maps.items():
        net.maps[name] = (channels, min(published, output_stride))


def _layers(container: nn.Module, key: str) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """(parent, its name there, layer) of every layer that has a stride, in a part of a net."""
    part = getattr(container, key)
    if isinstance(part, ConvNormAct | PoolSame) or hasattr(part, "kernel_size"):
        yield container, key, part
        return
    for name, _ in part.named_children():
        yield from _layers(part, name)


def _stride(layer: Any) -> int:
    found = layer.conv.stride if isinstance(layer, ConvNormAct) else layer.stride
    return int(found[0] if isinstance(found, tuple) else found)


def _set_stride(parent: Any, place: str, stride: int, *, dilation: int, name: str) -> None:
    """
    Raises:
        ValueError: a layer whose stride cannot be replaced.
    """
    layer = getattr(parent, place)
    if isinstance(layer, ConvNormAct | PoolSame):
        layer.set_stride(stride, dilation=dilation)
    elif isinstance(layer, nn.Conv2d) and layer.dilation == (1, 1) and not isinstance(layer.padding, str):
        layer.stride, layer.dilation = (stride, stride), (dilation, dilation)
        layer.padding = (layer.padding[0] * dilation, layer.padding[1] * dilation)
    elif isinstance(layer, nn.MaxPool2d) and layer.dilation == 1:
        setattr(parent, place, PoolEverywhere(layer, dilation=dilation))
    else:
        raise ValueError(f"the stride of {name} cannot become a dilation: it has a {type(layer).__name__}")
