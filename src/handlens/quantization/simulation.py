"""A net as a runtime computes it in int8, simulated in float: roundings where its quantizer places them.

Weights are rounded by output channel, activations by tensor with ranges from calibration images. A convolution and the
activation behind it round once. What is no convolution, linear layer, sum, concatenation, pooling or activation, the
arithmetic of Preprocess and the task's last step stay in float, as in the runtimes. Biases, which they keep in 32 bits,
are not rounded.

Source   Jacob et al. 2018, arXiv:1712.05877, section 3; each runtime's rules stand in its `Setting.scheme`.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from handlens.errors import InputError, nearest
from handlens.quantization.bias import bias_shift
from handlens.quantization.observe import Observed, filled
from handlens.quantization.rounding import LEAST, Rounding, activation_rounding, weight_rounding
from handlens.quantization.threads import one_thread
from handlens.quantization.unfolded import (
    ACTIVATIONS,
    OTHERS,
    PASSING,
    TRANSPOSED,
    WEIGHTED,
    Layer,
    Unfolded,
    aten,
    last_of,
)
from handlens.runtimes.int8 import Scheme


@dataclass(frozen=True)
class _Placed:
    """A rounding of an activation, and the operators of int8 that make or take it; it is off where all are in float."""

    rounding: Rounding
    node: fx.Node  # where it stands in the graph
    beside: frozenset[str]  # names of nodes


@dataclass(frozen=True)
class _Part:
    """One run of a layer."""

    node: fx.Node
    end: fx.Node  # the activation behind it, or itself
    parameter: str  # name of the weight
    limit: float  # of the weight, as in Scheme
    weight: Rounding
    shift: _Shift | None

    def switch(self, on: bool) -> None:
        self.weight.enabled = on
        if self.shift is not None:
            self.shift.enabled = on


class _Shift(nn.Module):
    """A bias with its correction, where `enabled`."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.enabled = False
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, bias: Tensor) -> Tensor:
        return bias + self.shift if self.enabled else bias


class Simulation:
    """
    Args:
        unfolded: the net; is left as it is.
        observed: its activations on calibration images.
        scheme: how to round.

    Attributes:
        layers: with weights that are rounded, in the order in which they run.
        module: the graph with its roundings.
        batch: how many images it computes at once.
    """

    def __init__(self, unfolded: Unfolded, observed: Observed, scheme: Scheme) -> None:
        self.scheme, self.layers, self.batch = scheme, unfolded.quantized(scheme), unfolded.batch
        self.module: fx.GraphModule = copy.deepcopy(unfolded.module)
        self._nodes = {node.name: node for node in self.module.graph.nodes}
        self._parts: dict[str, list[_Part]] = {}
        self._placed: list[_Placed] = []
        self._count = 0
        for layer in self.layers:
            self._parts.setdefault(layer.name, []).append(self._round_weight(layer, observed))
        place = self._at_outputs if scheme.places == "outputs" else self._at_inputs
        place(unfolded, observed)
        self.module.graph.lint()
        self.module.recompile()
        self.keep_float(())

    def __call__(self, images: Tensor) -> Any:
        """What the net gives for (N, C, H, W) normalized images, N of any number."""
        with torch.inference_mode(), one_thread():
            parts = []
            for start in range(0, len(images), self.batch):
                batch = images[start : start + self.batch]
                parts.append(_cut(self.module(filled(batch, self.batch)), len(batch), self.batch))
        return joined(parts, batch=self.batch)

    def keep_float(self, names: Collection[str] | None) -> None:
        """Leave these layers in float, all others in int8; None is all of them.

        A map between a layer of int8 and one in float is rounded, as in the runtimes.

        Raises:
            InputError: there is no such layer.
        """
        for name in names or ():
            if name not in self._parts:
                raise InputError(f"there is no layer {name!r} to keep in float; {nearest(name, self._parts)}.")
        kept = {part.node.name for name in names for part in self._parts[name]} if names is not None else None
        for part in (part for parts in self._parts.values() for part in parts):
            part.switch(kept is not None and part.node.name not in kept)
        for placed in self._placed:
            placed.rounding.enabled = kept is not None and not placed.beside <= kept

    def fit_weights(self) -> None:
        """Steps of weights anew, where weights have changed."""
        for part in (part for parts in self._parts.values() for part in parts):
            part.weight.fit_weight(self._read(part.parameter), part.limit)

    def quantize_alone(self, name: str) -> None:
        """Round the weights of one layer and what it makes (or, where ranges stand at inputs, takes), and no more."""
        self.keep_float(None)
        own = set()
        for part in self._parts[name]:
            part.switch(True)
            own.add(part.end if self.scheme.places == "outputs" else part.node)
        for placed in self._placed:
            placed.rounding.enabled = placed.node in own

    def each_alone(self, images: Tensor) -> Iterator[tuple[str | None, Any]]:
        """What the net gives for one batch in float, under the name None, and with each layer quantized alone.

        What lies before a layer is not computed again.

        Args:
            images: (N, C, H, W), no more than a batch.
        """
        batch, count = filled(images, self.batch), len(images)
        with torch.inference_mode(), one_thread():
            self.keep_float(None)
            whole = fx.Interpreter(self.module, garbage_collect_values=False)
            yield None, _cut(whole.run(batch), count, self.batch)
            for name in self._parts:
                self.quantize_alone(name)
                changed = self._behind_roundings()
                known = {node: value for node, value in whole.env.items() if node not in changed}
                yield name, _cut(fx.Interpreter(self.module).run(batch, initial_env=known), count, self.batch)
            self.keep_float(())

    def _behind_roundings(self) -> set[fx.Node]:
        """What changes through the roundings that are enabled."""
        found: set[fx.Node] = set()
        for node in self.module.graph.nodes:
            begins = node.op == "call_module" and self.module.get_submodule(str(node.target)).enabled
            if begins or any(source in found for source in node.all_input_nodes):
                found.add(node)
        return found

    def _round_weight(self, layer: Layer, observed: Observed) -> _Part:
        node, end, weight = self._nodes[layer.node.name], self._nodes[layer.end.name], self._read(layer.weight)
        limit = self.scheme.limit_of(layer.depthwise)
        rounding = weight_rounding(weight, axis=layer.channel_axis, limit=limit)
        self._put(rounding, node.args[1], (node,))
        if not self.scheme.bias_correction or layer.bias is None:
            return _Part(node, end, layer.weight, limit, rounding, None)
        rounding.enabled = True
        bias = self._read(layer.bias)
        shift = bias_shift(layer, weight, rounding(weight), observed.means[layer.node.name])
        if (shift.abs() / bias.abs().double().clamp(min=LEAST)).max() >= self.scheme.bias_correction:
            return _Part(node, end, layer.weight, limit, rounding, None)
        made = _Shift(shift.to(bias.dtype))
        self._put(made, node.args[2], (node,))
        return _Part(node, end, layer.weight, limit, rounding, made)

    def _operators(self, unfolded: Unfolded) -> Iterator[fx.Node]:
        """What computes in int8, but for activations that are part of what is before them."""
        others = [target for target in OTHERS if self.scheme.places == "outputs" or target is not aten.cat.default]
        fused: set[fx.Node] = set()
        for node in unfolded.module.graph.nodes:
            if node.op != "call_function" or node in fused:
                continue
            if node.target in TRANSPOSED and not self.scheme.transposed:
                continue
            alone = node.target in ACTIVATIONS and self.scheme.places == "outputs"
            if node.target in WEIGHTED or alone or (node.target in others and _of_maps(node)):
                yield node
                end = node
                while end is not last_of(node):
                    (end,) = end.users
                    fused.add(end)

    def _at_outputs(self, unfolded: Unfolded, observed: Observed) -> None:
        beside: dict[fx.Node, set[str]] = {}
        for node in self._operators(unfolded):
            for source in (*(_source(taken) for taken in _maps_of(node)), last_of(node)):
                beside.setdefault(source, set()).add(node.name)
        for source, names in beside.items():
            if source.name not in observed.extremes:
                continue
            rounding = activation_rounding(observed.extremes[source.name], axis=None, scheme=self.scheme)
            node = self._nodes[source.name]
            self._put(rounding, node, tuple(node.users))
            self._placed.append(_Placed(rounding, node, frozenset(names)))

    def _at_inputs(self, unfolded: Unfolded, observed: Observed) -> None:
        depthwise = {layer.node for layer in unfolded.layers if layer.depthwise}
        for node in self._operators(unfolded):
            by_channel = self.scheme.depthwise_channels and node in depthwise
            known = observed.by_channel if by_channel else observed.extremes
            for taken in _maps_of(node):
                if taken.name not in known:
                    continue
                rounding = activation_rounding(known[taken.name], axis=1 if by_channel else None, scheme=self.scheme)
                here = self._nodes[node.name]
                self._put(rounding, self._nodes[taken.name], (here,))
                self._placed.append(_Placed(rounding, here, frozenset([node.name])))

    def _put(self, module: nn.Module, source: fx.Node, users: Collection[fx.Node]) -> None:
        """Between a node and those of its users."""
        self._count += 1
        name = f"simulated_{self._count}"
        self.module.add_submodule(name, module)
        with self.module.graph.inserting_after(source):
            made = self.module.graph.call_module(name, (source,))
        for user in users:
            user.replace_input_with(source, made)

    def _read(self, name: str) -> Tensor:
        found: Tensor = operator.attrgetter(name)(self.module)
        return found


def joined(parts: list[Any], *, batch: int) -> Any:
    """Batches of raw outputs as one; what has no images along its first axis is the same in all."""
    leaves = [pytree.tree_leaves(part) for part in parts]
    _, shape = pytree.tree_flatten(parts[0])
    made = []
    for values in zip(*leaves, strict=True):
        images = isinstance(values[0], Tensor) and values[0].dim() > 0 and values[0].shape[0] <= batch
        made.append(torch.cat(values) if images and len(values) > 1 else values[0])
    return pytree.tree_unflatten(made, shape)


def _cut(raw: Any, count: int, batch: int) -> Any:
    """Without the images that fill the batch."""

    def first(x: Any) -> Any:
        return x[:count] if isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == batch else x

    return pytree.tree_map(first, raw)


def _maps_of(node: fx.Node) -> Iterator[fx.Node]:
    """What an operator takes, without the weights of a layer."""
    if node.target in WEIGHTED:
        assert isinstance(node.args[0], fx.Node)
        yield node.args[0]
        return
    for value in pytree.tree_leaves(node.args):
        if isinstance(value, fx.Node) and value.op != "get_attr":
            yield value


def _of_maps(node: fx.Node) -> bool:
    """Whether an operator takes nothing but maps, no constant."""
    return node.target is not aten.add.Tensor or all(isinstance(value, fx.Node) for value in node.args[:2])


def _source(node: fx.Node) -> fx.Node:
    """What made a map's values, behind operators that only move them."""
    while node.op == "call_function" and node.target in PASSING:
        assert isinstance(node.args[0], fx.Node)
        node = node.args[0]
    return node
