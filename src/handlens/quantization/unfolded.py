"""A net as a graph of PyTorch's operators, batch norm folded, and its layers by the names of its modules."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from handlens.errors import InputError
from handlens.runtimes.fold import folded
from handlens.runtimes.int8 import Scheme

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding)
TRANSPOSED = (aten.conv_transpose2d.input,)
WEIGHTED = (*CONVOLUTIONS, *TRANSPOSED, aten.linear.default)
# Part of the layer before them, which then rounds once.
ACTIVATIONS = (
    aten.relu.default,
    aten.hardtanh.default,
    aten.clamp.default,
    aten.clamp_min.default,
)
# Computed in int8 too, with a range of their own for what they make.
OTHERS = (aten.add.Tensor, aten.cat.default, aten.mean.dim, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default)
# What they make are values that they take, or zeros: no rounding of its own.
PASSING = (
    aten.max_pool2d.default,
    aten.pad.default,
    aten.constant_pad_nd.default,
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.view.default,
    aten.permute.default,
    aten.transpose.int,
    aten.slice.Tensor,
    aten.alias.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.squeeze.dim,
    aten.unsqueeze.default,
)
DROPOUTS = (aten.dropout.default, aten.feature_dropout.default, aten.alias.default, aten.detach_.default)


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: of its module, as in `net.named_modules()`; a module that runs again is another layer of that name.
        node: in the graph. end: the activation behind it where there is one, else the same.
        weight: of the parameter. bias: None where there is none.
    """

    name: str
    node: fx.Node
    end: fx.Node
    weight: str
    bias: str | None

    @property
    def channel_axis(self) -> int:
        """Of output channels in the weight; of a transposed convolution in groups, those of a group."""
        return 1 if self.node.target in TRANSPOSED else 0

    @property
    def multiply_adds(self) -> int:
        """For one image."""
        weight = self.node.args[1].meta["shape"]  # type: ignore[union-attr]
        made = self.node.meta["shape"]
        if self.node.target is aten.linear.default:
            return math.prod(made[1:]) * int(weight[1])
        places = self.node.args[0].meta["shape"] if self.node.target in TRANSPOSED else made  # type: ignore[union-attr]
        return math.prod(places[1:]) * math.prod(weight[1:])

    @property
    def parameters(self) -> int:
        return math.prod(self.node.args[1].meta["shape"])  # type: ignore[union-attr]

    @property
    def kind(self) -> str:
        """For people: "3x3 depthwise", "1x1", "linear" ..."""
        weight = self.node.args[1].meta["shape"]  # type: ignore[union-attr]
        if len(weight) == 2:
            return "linear"
        kernel = "x".join(str(side) for side in weight[2:])
        return f"{kernel} depthwise" if self.depthwise else kernel

    @property
    def depthwise(self) -> bool:
        if self.node.target not in CONVOLUTIONS:
            return False
        groups = self.node.args[6] if len(self.node.args) > 6 else 1
        return isinstance(groups, int) and groups > 1 and self.node.meta["shape"][1] % groups == 0


class Unfolded:
    """A net in eval mode as a graph for batches of one size, its batch norms folded as in an export.

    Args:
        net: is left as it is.
        example: (N, C, H, W) float32, normalized: images of the size of a batch.

    Attributes:
        net: what the graph was made of, batch norm folded. module: the graph; net's parameters under their names.
        layers: with weights, in the order in which they run.
        limits: by name of its module, (1, C, 1, 1) for each ReLU6 whose channels were rescaled (`equalization`).

    Raises:
        InputError: torch.export cannot take the net.
    """

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        self.batch = example.shape[0]
        self.limits: dict[str, Tensor] = {}
        try:
            with torch.no_grad():
                self.net = folded(copy.deepcopy(net).eval(), example)
                exported = torch.export.export(self.net, (example,), strict=False)
        except Exception as error:  # it raises whatever it likes; a model of one's own may be anything
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(f"int8 cannot be simulated for {type(net).__name__}: {first.rstrip('.')}.") from error
        self.module: fx.GraphModule = exported.module(check_guards=False)
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        graph = self.module.graph
        for node in list(graph.nodes):
            _in_place_to_new(node, type(net).__name__)
            if node.target is aten.relu6.default:
                node.target, node.args = aten.hardtanh.default, (node.args[0], 0.0, 6.0)
            if node.op == "call_function" and node.target in DROPOUTS:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
        graph.eliminate_dead_code()
        graph.lint()
        self.module.recompile()
        _note_shapes(self.module, example)
        self.layers = tuple(self.find_layers())

    def quantized(self, scheme: Scheme) -> tuple[Layer, ...]:
        """The layers that get 8 bits."""
        return tuple(layer for layer in self.layers if scheme.transposed or layer.node.target not in TRANSPOSED)

    def own_parameters(self, layer: Layer) -> list[str]:
        """Names of the weight and the bias, where they are parameters and no other layer has the weight."""
        if [other.weight for other in self.layers].count(layer.weight) > 1:
            return []
        known = dict(self.module.named_parameters())
        return [name for name in (layer.weight, layer.bias) if name in known]

    def copied(self) -> Unfolded:
        """The same with weights of its own."""
        made = copy.copy(self)
        made.module = copy.deepcopy(self.module)
        made.layers = tuple(made.find_layers())
        return made

    def find_layers(self) -> Iterator[Layer]:
        """`layers`, of the graph as it is now."""
        for node in self.module.graph.nodes:
            if node.op != "call_function" or node.target not in WEIGHTED or not _own(node.args[1]):
                continue
            bias = node.args[2] if len(node.args) > 2 else None
            yield Layer(
                module_of(node),
                node,
                last_of(node),
                str(node.args[1].target),
                str(bias.target) if isinstance(bias, fx.Node) and bias.op == "get_attr" else None,
            )


def last_of(node: fx.Node) -> fx.Node:
    """The activation that alone takes what an operator makes, or the operator itself."""
    users = list(node.users)
    if len(users) != 1 or users[0].target not in ACTIVATIONS or users[0].args[0] is not node:
        return node
    return last_of(users[0])


def _own(node: Any) -> bool:
    """Whether it is a number of the net, not computed."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def module_of(node: fx.Node) -> str:
    """The name of the deepest module that an operator stands in; outside of all, the operator's own."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    name = stack[-1][0] if stack else ""
    return str(name) or node.name


def _in_place_to_new(node: fx.Node, net: str) -> None:
    """relu_ becomes relu and so on, where nothing else takes what it would have changed.

    Raises:
        InputError: something does.
    """
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable or node.target in DROPOUTS:
        return
    assert isinstance(node.target, torch._ops.OpOverload)
    packet = getattr(aten, schema.name.split("::")[1].rstrip("_"), None)
    overload = node.target._overloadname
    changed = node.args[0] if node.args else None
    if (
        packet is None
        or overload not in packet.overloads()
        or not isinstance(changed, fx.Node)
        or len(changed.users) > 1
    ):
        raise InputError(
            f"int8 cannot be simulated for {net}: it changes a map in place that is used again ({schema.name})."
        )
    node.target = getattr(packet, overload)


def _note_shapes(module: fx.GraphModule, example: Tensor) -> None:
    """meta["shape"] of every node, for one batch: what torch.export noted, for folded nodes too."""
    for node in module.graph.nodes:
        value = node.meta.get("val")
        node.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
        if node.op == "placeholder":
            node.meta["shape"] = tuple(example.shape)
        if node.op == "get_attr":
            node.meta["shape"] = tuple(operator.attrgetter(str(node.target))(module).shape)
