"""The first, high-resolution blocks of a net one strip of rows after the other; `models.split` says why."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct
from handlens.models.classify.mobilenet_v2 import InvertedResidual

DEEPEST = 4  # stride of the last map that strips make: beyond it, little is left to save


@dataclass(frozen=True)
class _Step:
    """One unit in one strip: rows `first` to `last` of its input, and the zeros above and below them."""

    first: int
    last: int
    above: int
    below: int
    made: tuple[int, int]  # rows of its output


class RowStrips(nn.Module):
    """A stem and the blocks behind it, in strips of the rows that the last of them makes.

    A strip takes the rows of the image that it sees, more than it makes; those between two strips are computed twice.

    Args:
        units: the stem, then inverted residuals.
        strips: n; no more than there are rows.
        height: of the images, pixels.

    forward: images (N, C, height, W) -> the last block's map.
    """

    def __init__(self, units: Sequence[nn.Module], *, strips: int, height: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(copy.deepcopy(unit) for unit in units)
        self.height = height
        heights = [height]
        for unit in self.units:
            heights.append(_made(_spatial(unit), heights[-1]))
        rows = [part for part in torch.arange(heights[-1]).tensor_split(strips) if len(part)]
        self.plan = [self._steps(heights, (int(part[0]), int(part[-1]) + 1)) for part in rows]

    def _steps(self, heights: Sequence[int], wanted: tuple[int, int]) -> list[_Step]:
        """From the rows that the last unit shall make back to those of the image."""
        steps = []
        for unit, height in zip(reversed(self.units), reversed(heights[:-1]), strict=True):
            spatial = _spatial(unit)
            first = wanted[0] * spatial.conv.stride[0] - _before(spatial, height)
            last = first + (wanted[1] - wanted[0] - 1) * spatial.conv.stride[0] + _window(spatial)
            inside = max(first, 0), min(last, height)
            steps.append(_Step(*inside, inside[0] - first, last - inside[1], wanted))
            wanted = inside
        return steps[::-1]

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] != self.height:
            raise ValueError(f"these strips are for images of {self.height} rows, got {images.shape[2]}")
        return torch.cat([self._strip(images, steps) for steps in self.plan], dim=2)

    def _strip(self, images: Tensor, steps: Sequence[_Step]) -> Tensor:
        x = images[:, :, steps[0].first : steps[0].last]
        for unit, step in zip(self.units, steps, strict=True):
            if isinstance(unit, InvertedResidual):
                made: Tensor = unit.project(_on_rows(unit.depthwise, unit.expand(x), step))
                if unit.skip:
                    made = x[:, :, step.made[0] - step.first : step.made[1] - step.first] + made
                x = made
            else:
                x = _on_rows(unit, x, step)
        return x


def first_blocks(net: Any) -> int:
    """How many blocks behind a stem can run in strips; 0 where a net begins with something else."""
    if not isinstance(getattr(net, "stem", None), ConvNormAct):
        return 0
    stride, count = net.stem.conv.stride[0], 0
    for block in net.blocks:
        if not isinstance(block, InvertedResidual) or stride * block.depthwise.conv.stride[0] > DEEPEST:
            break
        stride *= block.depthwise.conv.stride[0]
        count += 1
    return count


def _on_rows(unit: Any, x: Tensor, step: _Step) -> Tensor:
    """What a stem or depthwise convolution makes of some rows, padded where the map ends and not where a strip does."""
    conv, width = unit.conv, x.shape[3]
    left = _before(unit, width)
    right = max(0, (_made(unit, width) - 1) * conv.stride[1] + _window(unit) - width - left)
    x = F.pad(x, (left, right, step.above, step.below))
    made: Tensor = F.conv2d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
    normed: Tensor = unit.act(unit.norm(made))
    return normed


def _spatial(unit: Any) -> Any:
    """The only layer of a unit that sees more than one row."""
    return unit.depthwise if isinstance(unit, InvertedResidual) else unit


def _window(unit: Any) -> int:
    return int((unit.conv.kernel_size[0] - 1) * unit.conv.dilation[0] + 1)


def _made(unit: Any, size: int) -> int:
    """Rows or columns of the output."""
    stride = unit.conv.stride[0]
    if unit.pads_first:
        return int(-(-size // stride))
    return int((size + 2 * unit.conv.padding[0] - _window(unit)) // stride + 1)


def _before(unit: Any, size: int) -> int:
    """Zeros before the first row or column."""
    if not unit.pads_first:
        return int(unit.conv.padding[0])
    return max(0, (_made(unit, size) - 1) * unit.conv.stride[0] + _window(unit) - size) // 2
