"""Calibration: what activations are on a few images, measured once for whatever scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from handlens.quantization.bias import input_mean
from handlens.quantization.threads import one_thread
from handlens.quantization.unfolded import Unfolded, last_of


@dataclass(frozen=True)
class Observed:
    """By name of node, of all that are (N, ...) floating point.

    Attributes:
        extremes: (images, 2, 1): the least and the greatest value in each image.
        by_channel: (images, 2, C), of what depthwise convolutions take.
        means: (C,) of what layers with weights take, by name of the layer's node.
    """

    extremes: dict[str, Tensor]
    by_channel: dict[str, Tensor]
    means: dict[str, Tensor]


def observe(unfolded: Unfolded, images: Tensor) -> Observed:
    """
    Args:
        images: (N, C, H, W) float32, normalized; their number need not be one of whole batches.

    Raises:
        ValueError: no images.
    """
    if not len(images):
        raise ValueError("calibration needs at least one image")
    seen = _Observer(unfolded)
    with torch.inference_mode(), one_thread():
        for start in range(0, len(images), unfolded.batch):
            batch = images[start : start + unfolded.batch]
            seen.count = len(batch)
            seen.run(filled(batch, unfolded.batch))
    whole = len(images)
    return Observed(
        {name: torch.cat(parts) for name, parts in seen.extremes.items()},
        {name: torch.cat(parts) for name, parts in seen.by_channel.items()},
        {name: total / whole for name, total in seen.sums.items()},
    )


def filled(batch: Tensor, count: int) -> Tensor:
    """A batch with its last image repeated, until there are so many."""
    missing = count - len(batch)
    return batch if missing <= 0 else torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])


class _Observer(fx.Interpreter):
    def __init__(self, unfolded: Unfolded) -> None:
        super().__init__(unfolded.module)
        self.count = self.batch = unfolded.batch
        self.extremes: dict[str, list[Tensor]] = {}
        self.by_channel: dict[str, list[Tensor]] = {}
        self.sums: dict[str, Tensor] = {}
        self._layers = {layer.node.name: layer for layer in unfolded.layers}
        self._depthwise = {layer.node.args[0] for layer in unfolded.layers if layer.depthwise}

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        if n.op != "get_attr" and isinstance(made, Tensor) and made.is_floating_point() and made.dim() > 1:
            self._note(n, made[: self.count] if made.shape[0] == self.batch else made[:0])
        if n.name in self._layers:
            layer = self._layers[n.name]
            x = self.env[n.args[0]][: self.count]  # type: ignore[index]
            self.sums[n.name] = self.sums.get(n.name, 0) + self.count * input_mean(layer, x)
        return made

    def _note(self, node: fx.Node, made: Tensor) -> None:
        if len(made) and last_of(node) is node:  # else nothing rounds it
            ends = [torch.stack(torch.aminmax(image)) for image in made]  # several times as fast as along an axis
            self.extremes.setdefault(node.name, []).append(torch.stack(ends)[..., None])
        if len(made) and node in self._depthwise:
            axes = tuple(range(2, made.dim()))
            self.by_channel.setdefault(node.name, []).append(torch.stack([made.amin(axes), made.amax(axes)], dim=1))
