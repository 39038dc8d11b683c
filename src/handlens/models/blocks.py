"""What three or more nets share: convolution + batch norm + activation, SAME padding, channel rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["symmetric", "same"]
Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


class ConvNormAct(nn.Module):
    """A convolution without bias, a norm, and an activation where one is given.

    Args:
        padding: "symmetric" pads (kernel - 1) / 2 on every side, as PyTorch; "same" pads as TensorFlow, more at the
            right and bottom where the total is odd.

    Attributes:
        frozen: the norm keeps its statistics, also in training mode.
        folded: with frozen statistics, the norm is multiplied into the convolution's weights instead of being
            applied to its output: the same function and the same gradients, without two passes over a large map.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation | None = None,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        if padding not in ("symmetric", "same"):
            raise ValueError(f"padding must be 'symmetric' or 'same', got {padding!r}")
        self.padding = padding
        symmetric = (kernel - 1) // 2 * dilation if padding == "symmetric" else 0
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=symmetric, dilation=dilation, groups=groups,
            bias=False,
        )  # fmt: skip
        self.norm = norm(out_channels)
        self.act = nn.Identity() if activation is None else activation()
        self.frozen = False
        self.folded = False

    def forward(self, x: Tensor) -> Tensor:
        if self.padding == "same":
            x = pad_same(x, kernel=self.conv.kernel_size, stride=self.conv.stride, dilation=self.conv.dilation)
        if self.folded:
            return self.act(self._folded_convolution(x))  # type: ignore[no-any-return]
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]

    def _folded_convolution(self, x: Tensor) -> Tensor:
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # type: ignore[operator]
        bias = norm.bias - norm.running_mean * scale  # type: ignore[operator]
        weight = self.conv.weight * scale[:, None, None, None]
        conv = self.conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> ConvNormAct:
        super().train(mode)
        if self.frozen:
            self.norm.eval()
        return self


def freeze_batch_norm(model: nn.Module, *, fold: bool = True) -> None:
    """Keep every batch norm's statistics from now on, also when `model.train()` is called.

    Scale and shift go on learning. With `fold`, plain BatchNorm2d is folded into its convolution; the keys of the
    state dict stay as they are.
    """
    for module in model.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            module.frozen = True
            module.folded = fold and type(module.norm) is nn.BatchNorm2d and module.norm.affine
            module.norm.eval()


def pad_same(x: Tensor, *, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Pad (N, C, H, W) as TensorFlow's SAME: outputs are ceil(size / stride), an odd total goes right and bottom.

    Source: TensorFlow's documentation of tf.nn.convolution, "SAME".
    """
    pads: list[int] = []
    for axis in (1, 0):  # F.pad begins with the last dimension
        size = x.shape[2 + axis]
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        total = torch.sym_max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def round_channels(channels: float, *, to: int = 8) -> int:
    """The nearest multiple of `to`, at least one, and never more than 10 % below; 1 rounds to whole channels.

    Source: make_divisible of the authors' MobileNet code; Sandler et al. 2018 do not state it.
    """
    rounded = max(to, int(channels + to / 2) // to * to)
    return rounded + to if rounded < 0.9 * channels else rounded


def initialise(model: nn.Module) -> None:
    """The usual start of convolutional nets: He et al. 2015 (fan out) for convolutions, N(0, 0.01) for linear layers."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
