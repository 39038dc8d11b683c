"""Convolutions that LiteRT need not copy a map for, to pad it.

LiteRT's convolutions know no padding and TensorFlow's "SAME". At stride 2 and an even size, "SAME" puts less above and
left of a map than PyTorch's (k - 1) / 2 on every side; then a padded copy of the map is made before the layer, and on a
microcontroller that copy is often the largest part of the memory. The last row and column of PyTorch's zeros are not
used there, so that a kernel of k + 1 whose last row and column are zeros gives the same; for it, (k - 1) / 2 on every
side is "SAME". These layers, a handful in a net, do ((k + 1) / k)^2 times the multiply-adds.
"""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.cost import measure
from handlens.models.strips import RowStrips


def without_padded_copies(net: nn.Module, *, height: int, width: int, channels: int = 3) -> nn.Module:
    """A copy of a net in eval mode that gives the same for images of this size alone, with wider kernels where these
    save a padded copy. Layers in strips stay as they are: strips are padded, each in a copy of its own.

    Raises:
        ValueError, RuntimeError: the net does not take images of this size.
    """
    made = copy.deepcopy(net).eval()
    strips = tuple(f"{name}." for name, module in made.named_modules() if isinstance(module, RowStrips))
    odd: dict[str, set[tuple[int, int]]] = {}  # 1 where rows and columns of what goes into a layer are odd
    hooks = []
    for name, module in made.named_modules():
        if type(module) is nn.Conv2d and _is_symmetric(module) and not name.startswith(strips):

            def remember(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                odd.setdefault(name, set()).add((inputs[0].shape[-2] % 2, inputs[0].shape[-1] % 2))

            hooks.append(module.register_forward_pre_hook(remember))
    measure(made, height=height, width=width, channels=channels)
    for hook in hooks:
        hook.remove()
    for name, found in odd.items():
        if len(found) > 1:  # it runs more than once, at sizes that differ
            continue
        [(rows, columns)] = found
        parent, _, key = name.rpartition(".")
        setattr(made.get_submodule(parent), key, _wider(made.get_submodule(name), rows=1 - rows, columns=1 - columns))
    return made


def _is_symmetric(conv: nn.Conv2d) -> bool:
    """Whether it is padded as the module's docstring says."""
    kernel = conv.kernel_size
    odd = all(side % 2 == 1 and side > 1 for side in kernel)
    around = conv.padding == tuple(side // 2 for side in kernel) and conv.padding_mode == "zeros"
    return odd and around and conv.stride == (2, 2) and conv.dilation == (1, 1)


def _wider(conv: Any, *, rows: int, columns: int) -> nn.Conv2d:
    """The same with so many rows and columns of zeros behind its kernel."""
    padding: Any = conv.padding
    made = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0] + rows, conv.kernel_size[1] + columns),
        stride=(2, 2),
        padding=padding,
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    made.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, columns, 0, rows)), requires_grad=False)
    made.bias = conv.bias
    return made.eval()
