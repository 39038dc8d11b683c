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


@dataclass(frozen=True)
class Entry:
    """One net of the catalogue.

    Attributes:
        image_size: pixels it was published at. scaling: a name of preprocess.SCALINGS.
        converts_to: the runtimes that take it.
    """

    constructor: Callable[..., nn.Module]
    task: str
    image_size: int
    scaling: str
    converts_to: tuple[str, ...]
    about: str


CATALOGUE: dict[str, Entry] = {
    "mobilenet_v2": Entry(
        MobileNetV2, "classify", 224, "imagenet", ("onnx", "openvino"), "Sandler et al. 2018: inverted residuals"
    ),
    "efficientnet_lite0": Entry(
        EfficientNetLite0, "classify", 224, "lite", ("onnx", "openvino"), "Tan and Le 2019, the form for phones"
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

    def __init__(self, net: nn.Module, maps: Sequence[str]) -> None:
        super().__init__()
        known: dict[str, tuple[int, int]] = net.maps  # type: ignore[assignment]
        names = {asked: resolve_map(asked, known) for asked in maps}
        order = list(known)
        last = max(names.values(), key=order.index)
        self.names = names
        self.channels = {asked: known[name][0] for asked, name in names.items()}
        self.strides = {asked: known[name][1] for asked, name in names.items()}
        self.stem = net.stem
        number = 0 if last == "stem" else len(net.blocks) if last == "head" else int(last[5:].split(".")[0])  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(list(net.blocks)[:number])  # type: ignore[arg-type]
        self.cut = last.endswith(".expand")
        if self.cut:  # nothing behind the expansion: every parameter has a gradient
            cut = self.blocks[-1]
            assert isinstance(cut, InvertedResidual)
            self.blocks[-1] = cut.expand
        self.head = net.head if last == "head" else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)  # type: ignore[operator]
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
            made["head"] = self.head(x)  # type: ignore[operator]
        return {asked: made[name] for asked, name in self.names.items()}


def backbone(name: str, *, maps: Sequence[str] = ("s32",), output_stride: int = 32, **options: Any) -> Backbone:
    """A net cut behind the maps that are asked for.

    Args:
        maps: names as in `net.maps`, or "s2" to "s32" for the last block at that stride.
        output_stride: 32, 16 or 8; strides beyond it become dilations (Chen et al. 2017, arXiv:1706.05587).

    Raises:
        InputError: an unknown net, option or map.
        ValueError: another output stride.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    net = build(name, num_classes=1, **options)
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


def _dilate(net: nn.Module, output_stride: int) -> None:
    """Replace strides beyond `output_stride` by dilations, and correct `maps`."""
    stride = dilation = 1
    for unit in (module for module in net.modules() if isinstance(module, ConvNormAct)):
        own = unit.conv.stride[0]
        if stride * own > output_stride:
            unit.conv.stride = (1, 1)
            next_dilation = dilation * own
        else:
            stride, next_dilation = stride * own, dilation
        if unit.conv.kernel_size[0] > 1:
            reach = (unit.conv.kernel_size[0] - 1) // 2 * dilation
            unit.conv.dilation = (dilation, dilation)
            if unit.padding == "symmetric":
                unit.conv.padding = (reach, reach)
        dilation = next_dilation
    maps: dict[str, tuple[int, int]] = net.maps  # type: ignore[assignment]
    for name, (channels, published) in maps.items():
        maps[name] = (channels, min(published, output_stride))


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"the nearest is {near[0]!r}" if near else f"there are {', '.join(known)}"
