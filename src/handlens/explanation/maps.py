"""The maps inside a model, by the name of the module that makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handlens.errors import InputError, nearest

HEAD = "classifier"  # its maps are predictions already
BACKBONE = "backbone"  # of a segmenter or detector: what is behind it differs from model to model

MOST_NAMED = 20  # layers in an error

Hook = Callable[[str, Tensor], Tensor | None]


@dataclass(frozen=True)
class MapShape:
    """A module whose output has places.

    Attributes:
        name: of the module, as in `named_modules()`.
        channels, height, width: of its output.
        stride: pixels of the image for each of its rows, to the nearest power of 2.
    """

    name: str
    channels: int
    height: int
    width: int
    stride: int


@contextmanager
def hooked(net: nn.Module, names: Iterable[str], hook: Hook) -> Iterator[None]:
    """Inside, `hook` is given the output of each named module, and may return another in its place."""
    modules = dict(net.named_modules())
    handles = [
        modules[name].register_forward_hook(lambda _module, _inputs, output, name=name: hook(name, output))
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def map_shapes(net: nn.Module, images: Tensor) -> list[MapShape]:
    """Every module that makes a map of more than one place, in the order they finish.

    Of modules that hand on the same tensor, such as a block and its last layer, both are listed, the outer one last.

    Args:
        images: (N, C, H, W) as the model takes them.
    """
    found: dict[str, MapShape] = {}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found.pop(name, None)  # of a module that runs twice, its last map
            channels, height, width = output.shape[1:]
            found[name] = MapShape(name, channels, height, width, 2 ** round(math.log2(images.shape[2] / height)))

    with torch.inference_mode(), hooked(net, [name for name, _ in net.named_modules() if name], note):
        net(images)
    return list(found.values())


def layers_to_explain(shapes: list[MapShape]) -> list[str]:
    """Where a heat map is taken, coarsest first: of each resolution the last map before the head, which has seen most.

    Of a segmenter or detector, the maps of its backbone.

    Raises:
        InputError: the model has no maps.
    """
    inside = [one for one in shapes if one.name.startswith(f"{BACKBONE}.")]
    if not inside:
        inside = [one for one in shapes if one.name.split(".")[0] != HEAD]
    if not inside:
        raise InputError("this model has no maps, only vectors; use --method occlusion, which needs none.")
    last = {(one.height, one.width): one.name for one in inside}
    return [last[size] for size in sorted(last, key=lambda size: size[0] * size[1])]


def found_layer(wanted: str, shapes: list[MapShape]) -> str:
    """The layer of this name, or the last before the head of this stride: "s16", a sixteenth as high as the image.

    Raises:
        InputError: there is none; the nearest names are listed.
    """
    names = [one.name for one in shapes]
    if wanted in names:
        return wanted
    of_stride = [one.name for one in shapes if f"s{one.stride}" == wanted and one.name.split(".")[0] != HEAD]
    if of_stride:
        return of_stride[-1]
    hint = nearest(wanted, names)
    if len(names) > MOST_NAMED and hint.startswith("available"):
        strides = sorted({one.stride for one in shapes})
        hint = f"take a stride ({', '.join(f's{stride}' for stride in strides)}) or a name that handlens summary lists"
    raise InputError(f"no layer {wanted!r} with a map; {hint}.")
