"""Cross-layer equalization: channels between two layers are rescaled until their weights have like ranges.

Source   Nagel et al. 2019, arXiv:1906.04721, section 4.1: s_i = sqrt(r1_i r2_i) / r2_i, W1 / s, b1 / s, W2 s, until
         nothing changes, so that one range per tensor wastes no levels on channels that are small.
Differs  Through ReLU6 the paper goes by making ReLU of it, which changes the function. Here the limit is rescaled with
         its channel, min(relu(x), 6 / s_i), and the net gives what it gave; in a file this is an operator of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import torch
from torch import Tensor, fx

from handlens.quantization.unfolded import ACTIVATIONS, CONVOLUTIONS, PASSING, Layer, Unfolded, aten, module_of

ROUNDS = 30
SETTLED = 1e-3  # relative change of a scale at which it ends
SPREAD = 1e-2, 1e2  # of a scale in one step: a channel of zeros has none


def equalized(unfolded: Unfolded, *, rounds: int = ROUNDS) -> Unfolded:
    """A copy whose layers are equalized in pairs, through ReLU, ReLU6 or nothing between them.

    What it gives is the same but for the order of sums.
    """
    made = unfolded.copied()
    pairs = list(pairs_of(made))
    limits: dict[fx.Node, Tensor] = {}
    with torch.no_grad():
        for _ in range(rounds):
            changes = [_equalize(made.module, *pair, limits=limits) for pair in pairs]
            if max(changes, default=0.0) < SETTLED:
                break
        made.limits = {module_of(act): limit.float().reshape(1, -1, 1, 1) for act, limit in limits.items()}
        for act, limit in limits.items():
            _limit_by_channel(made.module, act, limit)
    made.module.graph.lint()
    made.module.recompile()
    made.layers = tuple(made.find_layers())
    return made


def pairs_of(unfolded: Unfolded) -> Iterator[tuple[Layer, Layer, fx.Node | None]]:
    """Two convolutions of which one alone takes what the other makes, and the activation between them."""
    by_node = {layer.node: layer for layer in unfolded.layers if layer.node.target in CONVOLUTIONS}
    acts = [module_of(node) for node in unfolded.module.graph.nodes if node.target in ACTIVATIONS]
    for first in by_node.values():
        act = None if first.end is first.node else first.end
        if act is not None and (not _scales(act, first.node) or acts.count(module_of(act)) > 1):
            continue  # a module that runs again limits other channels too
        following = first.end
        while len(following.users) == 1 and (user := next(iter(following.users))).target in PASSING:
            if user.target not in (aten.pad.default, aten.constant_pad_nd.default, aten.max_pool2d.default):
                break
            following = user
        (user, *more) = following.users
        second = by_node.get(user)
        if more or second is None or user.args[0] is not following:
            continue
        if _groups(second) not in (1, _channels(second)):
            continue
        if all(layer.weight in unfolded.own_parameters(layer) for layer in (first, second)):
            yield first, second, act


def _scales(act: fx.Node, layer: fx.Node) -> bool:
    """Whether an activation is ReLU or ReLU6 right behind a layer."""
    if act.args[0] is not layer or act.target not in ACTIVATIONS:
        return False
    return act.target is aten.relu.default or bool(act.target is aten.hardtanh.default and act.args[1] == 0)


def _equalize(
    module: fx.GraphModule, first: Layer, second: Layer, act: fx.Node | None, *, limits: dict[fx.Node, Tensor]
) -> float:
    """One step for one pair; the largest relative change."""
    before, after = (operator.attrgetter(layer.weight)(module) for layer in (first, second))
    depthwise = _groups(second) > 1
    own = before.flatten(1).abs().amax(1).double()
    taken = (after if depthwise else after.transpose(0, 1)).flatten(1).abs().amax(1).double()
    if depthwise and len(taken) != len(own):  # several outputs for each channel
        taken = taken.reshape(len(own), -1).amax(1)
    scale = torch.where((own > 0) & (taken > 0), (own / taken.clamp(min=1e-30)).sqrt(), torch.ones_like(own))
    scale = scale.clamp(*SPREAD)
    ones = [1] * (before.dim() - 1)
    before.copy_(before.double() / scale.reshape(-1, *ones))
    if first.bias is not None:
        bias = operator.attrgetter(first.bias)(module)
        bias.copy_(bias.double() / scale)
    spread = scale.repeat_interleave(len(after) // len(scale)).reshape(-1, *ones) if depthwise else None
    after.copy_(after.double() * (scale.reshape(1, -1, *ones[1:]) if spread is None else spread))
    if act is not None and act.target is aten.hardtanh.default:
        limit = limits.get(act)
        limits[act] = (torch.full_like(scale, float(act.args[2])) if limit is None else limit) / scale  # type: ignore[arg-type]
    return float((scale - 1).abs().max())


def _limit_by_channel(module: fx.GraphModule, act: fx.Node, limit: Tensor) -> None:
    """ReLU6 becomes min(relu(x), limit), a limit for each channel."""
    name = f"limit_{act.name}"
    module.register_buffer(name, limit.float().reshape(1, -1, 1, 1))
    users, act.target, act.args = list(act.users), aten.relu.default, act.args[:1]
    with module.graph.inserting_after(act):
        held = module.graph.get_attr(name)
    with module.graph.inserting_after(held):
        made = module.graph.call_function(aten.minimum.default, (act, held))
    made.meta |= {"shape": act.meta["shape"], "nn_module_stack": act.meta.get("nn_module_stack", {})}
    for user in users:
        user.replace_input_with(act, made)


def _groups(layer: Layer) -> int:
    groups = layer.node.args[6] if len(layer.node.args) > 6 else 1
    assert isinstance(groups, int)
    return groups


def _channels(layer: Layer) -> int:
    return int(layer.node.args[0].meta["shape"][1])  # type: ignore[union-attr]
