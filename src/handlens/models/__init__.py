"""The nets: one file per paper, a literal catalogue, and `build`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models.blocks import ConvNormAct
from handlens.models.classify.efficientnet_lite import EfficientNetLite0
from handlens.models.classify.mobilenet_v2 import InvertedResidual, MobileNetV2


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One net of the catalogue.

    Attributes:
        task: "classify".
        image_size: pixels it was published at.
        scaling: a name of preprocess.SCALINGS.
        weights: names in weights.SOURCES that fit it.
        converts_to: the runtimes that take it.
        about: one line for people.
    """

    constructor: Callable[..., nn.Module]
    task: str
    image_size: int
    scaling: str
    weights: tuple[str, ...]
    converts_to: tuple[str, ...]
    about: str


CATALOGUE: dict[str, Entry] = {
    "mobilenet_v2": Entry(
        constructor=MobileNetV2,
        task="classify",
        image_size=224,
        scaling="imagenet",
        weights=("mobilenet_v2",),
        converts_to=("onnx", "openvino"),
        about="Sandler et al. 2018: inverted residuals and linear bottlenecks, any width and size",
    ),
    "efficientnet_lite0": Entry(
        constructor=EfficientNetLite0,
        task="classify",
        image_size=224,
        scaling="lite",
        weights=("efficientnet_lite0",),
        converts_to=("onnx", "openvino"),
        about="Tan and Le 2019, the form for phones: no squeeze-and-excitation, ReLU6",
    ),
}


def build(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """Build a net of the catalogue with fresh weights.

    Raises:
        InputError: no such net, or no such option; the nearest is named.
        ValueError: an option out of range.
    """
    if name not in CATALOGUE:
        raise InputError(f"there is no net called {name!r}; {_nearest(name, CATALOGUE)}.")
    constructor = CATALOGUE[name].constructor
    known = [key for key in inspect.signature(constructor).parameters if key != "num_classes"]
    for option in options:
        if option not in known:
            raise InputError(f"{name} has no option {option!r}; {_nearest(option, known)}.")
    return constructor(num_classes=num_classes, **options)


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
        self.head = net.head if last == "head" else None
        self.stem = net.stem
        self.blocks = net.blocks if self.head else net.blocks[: _block_number(last)]
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
    net = build(name, num_classes=1, **options)
    assert isinstance(net, MobileNetV2 | EfficientNetLite0)
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
    raise InputError(f"there is no map {asked!r}; {_nearest(asked, known)}.")


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


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"the nearest is {near[0]!r}" if near else f"there are {', '.join(known)}"
