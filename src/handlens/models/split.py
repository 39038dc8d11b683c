"""Memory-efficient inference: inverted residuals with the expansion in parts, and first blocks in strips of rows.

Source   Sandler et al. 2018, section 5.1: a bottleneck is a sum over its expanded channels, F(x) = sum of
         project_i(depthwise_i(expand_i(x))), so that t parts need a t-th of the expanded maps at a time. They advise
         2 to 5 parts. Strips: Lin et al. 2021, MCUNetV2, arXiv:2110.15352, section 3.1, with strips for patches.
Differs  Batch norm is folded into the convolutions. Parts need not be equal.

Both compute what the whole net computes, but for the order of sums, and are for inference only.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models.blocks import ConvNormAct
from handlens.models.classify.mobilenet_v2 import InvertedResidual
from handlens.models.cost import measure
from handlens.models.padding import without_padded_copies
from handlens.models.strips import RowStrips, first_blocks

LARGEST = 64  # parts or strips; beyond that only the number of operators grows


class SplitResidual(nn.Module):
    """An inverted residual as a sum over parts of its expanded channels, with batch norm folded in.

    Args:
        block: is left as it is.
        parts: t, from 1 to the number of expanded channels.

    Raises:
        ValueError: the block has no expansion, or a norm that looks across channels.
    """

    def __init__(self, block: InvertedResidual, *, parts: int) -> None:
        super().__init__()
        if not can_be_split(block):
            raise ValueError("only inverted residuals with an expansion and plain batch norm can be split")
        if not 1 <= parts <= block.expanded_channels:
            raise ValueError(f"parts must be from 1 to {block.expanded_channels}, got {parts}")
        assert isinstance(block.expand, ConvNormAct)
        self.skip = block.skip
        self.parts = nn.ModuleList()
        for channels in torch.arange(block.expanded_channels).tensor_split(parts):
            first, last = int(channels[0]), int(channels[-1]) + 1
            part = nn.Sequential()
            part.add_module("expand", folded(block.expand, outputs=slice(first, last)))
            part.add_module("depthwise", folded(block.depthwise, outputs=slice(first, last)))
            part.add_module("project", folded(block.project, inputs=slice(first, last), bias=first == 0))
            self.parts.append(part)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.parts[0](x)
        for part in list(self.parts)[1:]:
            total = total + part(x)
        return x + total if self.skip else total

    def train(self, mode: bool = True) -> SplitResidual:
        return super().train(False)


def can_be_split(block: nn.Module) -> bool:
    if type(block) is not InvertedResidual or not isinstance(block.expand, ConvNormAct):
        return False
    return all(type(unit.norm) is nn.BatchNorm2d for unit in (block.expand, block.depthwise, block.project))


def folded(
    unit: ConvNormAct, *, outputs: slice = slice(None), inputs: slice = slice(None), bias: bool = True
) -> ConvNormAct:
    """A copy with its batch norm in the convolution, of some of its channels.

    Args:
        outputs: of a depthwise convolution, its inputs too. inputs: of one that is not.
        bias: False leaves out what the norm adds, for all parts of a sum but one.
    """
    conv, norm = unit.conv, unit.norm
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    made = copy.copy(unit)
    made._modules = dict(unit._modules)
    # In float64, so that what remains of the difference is the order of sums.
    scale = (norm.running_var.double() + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight.double())
    shift = (0 if norm.bias is None else norm.bias.double()) - norm.running_mean.double() * scale
    weight = (conv.weight.double() * scale[:, None, None, None])[outputs, inputs].to(conv.weight.dtype)
    depthwise = conv.groups > 1
    made.conv = nn.Conv2d(
        weight.shape[0] if depthwise else weight.shape[1],
        weight.shape[0],
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        weight.shape[0] if depthwise else 1,
        bias=bias,
        device="meta",
    )
    made.conv.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias:
        made.conv.bias = nn.Parameter(shift[outputs].to(weight.dtype).detach().contiguous(), requires_grad=False)
    made.norm, made.frozen, made.folded = nn.Identity(), False, False
    return made.eval()


def splittable(net: nn.Module) -> dict[str, InvertedResidual]:
    """Blocks by name whose expansion can be split; not those in strips, nor those whose expanded map is asked for.

    Raises:
        InputError: there are none.
    """
    taken = {name.removesuffix(".expand") for name in _maps(net) if name.endswith(".expand")}
    strips = tuple(f"{name}." for name, module in net.named_modules() if isinstance(module, RowStrips))
    found: dict[str, InvertedResidual] = {}
    for name, block in net.named_modules():
        number = re.search(r"blocks\.(\d+)$", name)
        asked_for = number is not None and f"block{int(number[1]) + 1}" in taken
        if can_be_split(block) and not asked_for and not name.startswith(strips):
            assert isinstance(block, InvertedResidual)
            found[name] = block
    if not found:
        raise InputError(
            f"{type(net).__name__} has no inverted residual with an expansion and batch norm, which alone can be split."
        )
    return found


def _maps(net: Any) -> Collection[str]:
    """Names of the maps that a detector or a segmenter takes from its backbone."""
    return getattr(getattr(net, "backbone", net), "names", {}).values()


def split_expansions(net: nn.Module, parts: int | Mapping[str, int]) -> nn.Module:
    """A copy of a net in eval mode whose inverted residuals run in parts.

    Args:
        parts: t of all of them, or by name of block, as `choose_parts` gives; other blocks stay whole.

    Raises:
        InputError: there is nothing to split, no such block, or t is out of range.
    """
    blocks = splittable(net)
    asked = dict.fromkeys(blocks, parts) if isinstance(parts, int) else dict(parts)
    made = copy.deepcopy(net).eval()
    for name, number in asked.items():
        if name not in blocks:
            raise InputError(f"{name} is no block that can be split; available: {', '.join(blocks)}.")
        check_number(number, "split")
        parent, _, key = name.rpartition(".")
        block = SplitResidual(blocks[name], parts=min(number, blocks[name].expanded_channels))
        setattr(made.get_submodule(parent), key, block)
    return made


def choose_parts(
    net: nn.Module, most: int, *, height: int, width: int, channels: int = 3, enough: int = 0
) -> dict[str, int]:
    """The smallest t of every block, at most `most`, that brings it below what the rest of the net needs anyway.

    Only blocks that decide the peak are split: the block with the peak gets one part more, until the peak stands
    elsewhere or nothing is gained.

    Args:
        enough: bytes in int8, bookkeeping included, at which it stops early.

    Returns:
        t by name of block, for `split_expansions`; empty where splitting does not help.

    Raises:
        InputError: there is nothing to split, or `most` is out of range.
        ValueError: the net does not take images of this size.
    """
    check_number(most, "split")
    blocks = splittable(net)
    net = copy.deepcopy(net).to("meta")
    parts: dict[str, int] = {}
    best: dict[str, int] = {}
    lowest, last = None, None
    while True:
        cost = measure(split_expansions(net, parts), height=height, width=width, channels=channels)
        if lowest is None or cost.arena_numbers < lowest:
            lowest, best = cost.arena_numbers, dict(parts)
        if cost.ram_bytes <= enough:
            return best
        # Where the rest has the peak, but the planner does not reach it, the block that was split last is in its way.
        last = next((name for name in blocks if cost.peak_at_padded.startswith(f"{name}.")), last)
        reached = cost.arena_numbers == cost.peak_numbers_padded
        if last is None or (reached and not cost.peak_at_padded.startswith(f"{last}.")):
            return best
        if parts.get(last, 1) >= min(most, blocks[last].expanded_channels):
            return best
        parts[last] = parts.get(last, 1) + 1


def in_strips(net: nn.Module, strips: int, *, height: int, width: int, channels: int = 3) -> tuple[nn.Module, int]:
    """A copy of a net in eval mode whose first blocks run in strips of rows, as many blocks as need least memory.

    Returns:
        the net, and how many blocks behind the stem run in strips.

    Raises:
        InputError: the net does not begin with a stem and inverted residuals, or `strips` is out of range.
        ValueError: the net does not take images of this size.
    """
    check_number(strips, "strips")
    taken = _maps(net)
    most = 0 if "stem" in taken else first_blocks(getattr(net, "backbone", net))
    most = min([most, *(int(found[1]) - found[0].endswith("d") for name in taken if (found := _block(name)))])
    if not most:
        raise InputError(
            f"{type(net).__name__} does not begin with a stem and inverted residuals, which alone run in strips."
        )
    made: dict[int, int] = {}
    for blocks in range(1, most + 1):
        shadow = _with_strips(copy.deepcopy(net).to("meta"), strips, blocks, height=height)
        shadow = without_padded_copies(shadow, height=height, width=width, channels=channels)
        made[blocks] = measure(shadow, height=height, width=width, channels=channels).arena_numbers
    best = min(made, key=lambda blocks: (made[blocks], blocks))
    return _with_strips(copy.deepcopy(net), strips, best, height=height), best


def _block(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"block(\d+)(\.expand)?", name)


@dataclass(frozen=True, kw_only=True)
class Lean:
    """A net that needs less memory.

    Attributes:
        net: in eval mode; a copy, or the net itself where nothing was asked for.
        parts: t by name of block; of those that are split.
        strip_blocks: how many blocks behind the stem run in strips.
        strips: in how many.
    """

    net: nn.Module
    parts: Mapping[str, int]
    strip_blocks: int
    strips: int

    def __str__(self) -> str:
        said = [f"{name} in {number} parts" for name, number in self.parts.items()]
        if self.strip_blocks:
            said.insert(0, f"the stem and {self.strip_blocks} blocks in {self.strips} strips")
        return ", ".join(said) or "nothing is split"


def lean(
    net: nn.Module, *, height: int, width: int, channels: int = 3, split: int = 1, strips: int = 1, enough: int = 0
) -> Lean:
    """First strips, then parts of blocks behind them, as far as they lower the peak; no padded copies outside strips.
    For images of this size alone.

    Args:
        split: the largest number of parts. strips: their number. 1 is none.
        enough: as of `choose_parts`.

    Raises:
        InputError: the net cannot be split or run in strips, or a number is out of range.
        ValueError: the net does not take images of this size.
    """
    check_number(split, "split")
    check_number(strips, "strips")
    blocks, parts = 0, {}
    if strips > 1:
        net, blocks = in_strips(net, strips, height=height, width=width, channels=channels)
    if split > 1 or strips > 1:
        net = without_padded_copies(net, height=height, width=width, channels=channels)
    if split > 1:
        parts = choose_parts(net, split, height=height, width=width, channels=channels, enough=enough)
        net = split_expansions(net, parts)
    return Lean(net=net, parts=parts, strip_blocks=blocks, strips=strips)


def _with_strips(net: nn.Module, strips: int, blocks: int, *, height: int) -> nn.Module:
    net = net.eval()
    outer: Any = getattr(net, "backbone", net)
    units = [outer.stem, *outer.blocks[:blocks]]
    outer.blocks[blocks - 1] = RowStrips(units, strips=strips, height=height)
    outer.stem = nn.Identity()
    for number in range(blocks - 1):
        outer.blocks[number] = nn.Identity()
    return net


def check_number(number: int, name: str) -> None:
    """
    Raises:
        InputError: out of range.
    """
    if not 1 <= number <= LARGEST:
        raise InputError(f"--{name} must be from 1 to {LARGEST}, got {number}.")
