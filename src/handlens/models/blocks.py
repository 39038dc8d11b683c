"""What three or more nets share: convolution + batch norm + activation, SAME padding, channel rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # what all of PyTorch's batch norms derive from
from torch.utils.hooks import RemovableHandle

Padding = Literal["symmetric", "same"]
Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]

EPSILON = 1e-5  # of PyTorch's batch norm, unless asked otherwise


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
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, groups=groups, bias=False)
        self.set_stride(stride, dilation=dilation)
        self.norm = norm(out_channels)
        self.act = nn.Identity() if activation is None else activation()
        self.frozen = False
        self.folded = False

    def set_stride(self, stride: int, *, dilation: int) -> None:
        """Change both, and the padding with them; weights stay as they are."""
        conv = self.conv
        reach = (conv.kernel_size[0] - 1) * dilation
        conv.stride, conv.dilation = (stride, stride), (dilation, dilation)
        # At stride 1 an even reach is the same on both sides, and the convolution pads without a copy of the map.
        self.pads_first = self.padding == "same" and reach > 0 and (stride > 1 or reach % 2 == 1)
        conv.padding = (0, 0) if self.pads_first else (reach // 2, reach // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.pads_first:
            x = pad_same(x, kernel=self.conv.kernel_size, stride=self.conv.stride, dilation=self.conv.dilation)
        if self.folded:
            return self.act(self._folded_convolution(x))
        if self._learns_slowly(x):
            return self.act(self.norm(convolve_interleaved(x, self.conv.weight, None, dilation=self.conv.dilation[0])))
        return self.act(self.norm(self.conv(x)))

    def _learns_slowly(self, x: Tensor) -> bool:
        """Whether PyTorch has no fast kernel for the gradient: depthwise and dilated, on the CPU."""
        conv = self.conv
        reach = (conv.kernel_size[0] - 1) * conv.dilation[0] // 2
        if conv.groups != conv.in_channels or conv.dilation[0] == 1 or conv.padding != (reach, reach):
            return False
        return self.training and torch.is_grad_enabled() and x.device.type == "cpu" and conv.in_channels > 1

    def _folded_convolution(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # type: ignore[operator]
        bias = norm.bias - norm.running_mean * scale  # type: ignore[operator]
        weight = conv.weight * scale[:, None, None, None]
        if self._learns_slowly(x):
            return convolve_interleaved(x, weight, bias, dilation=conv.dilation[0])
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def train(self, mode: bool = True) -> ConvNormAct:
        super().train(mode)
        if self.frozen:
            self.norm.eval()
        return self


def convolve_interleaved(x: Tensor, weight: Tensor, bias: Tensor | None, *, dilation: int) -> Tensor:
    """A depthwise convolution of stride 1 with dilation d, as d * d plain ones over every d-th pixel.

    Forward and backward together take a quarter to an eighth of the time on the CPU (benchmarks/dilated_training.py).

    Args:
        x: (N, C, H, W), channels last. weight: (C, 1, k, k), k odd. bias: (C,) or None.

    Returns:
        (N, C, H, W), channels last: what F.conv2d gives with padding (k - 1) / 2 * d.

    Source: the "space to batch" of Chen et al. 2015, arXiv:1412.7062, section 3.1, as TensorFlow has it.
    """
    (n, channels, height, width), d = x.shape, dilation
    rows, columns = -(-height // d), -(-width // d)
    x = F.pad(x, (0, columns * d - width, 0, rows * d - height)).permute(0, 2, 3, 1)
    grids = x.reshape(n, rows, d, columns, d, channels).permute(0, 2, 4, 1, 3, 5)
    grids = grids.reshape(n * d * d, rows, columns, channels).permute(0, 3, 1, 2)
    made = F.conv2d(grids, weight, bias, padding=weight.shape[-1] // 2, groups=channels).permute(0, 2, 3, 1)
    made = made.reshape(n, d, d, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    return made.reshape(n, rows * d, columns * d, channels)[:, :height, :width].permute(0, 3, 1, 2)


def norm_state(norm: str, *, shift: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
    """The state of a BatchNorm2d that adds `shift`, after a factor where one is given, and does nothing else.

    So comes back what a publisher folded into the convolution before it. Both are (C,).
    """
    return {
        f"{norm}.weight": torch.ones_like(shift) if scale is None else scale,
        f"{norm}.bias": shift,
        f"{norm}.running_mean": torch.zeros_like(shift),
        f"{norm}.running_var": torch.full_like(shift, 1 - EPSILON),  # so that it divides by 1
    }


def freeze_batch_norm(model: nn.Module, *, fold: bool = True) -> list[RemovableHandle]:
    """Keep every batch norm's statistics from now on, also when `model.train()` is called.

    Scale and shift go on learning. With `fold`, plain BatchNorm2d is folded into its convolution; the keys of the
    state dict stay as they are.

    Returns:
        the hooks that keep norms in blocks of the caller's own frozen, to be removed after training.

    Raises:
        ValueError: a batch norm keeps no statistics, so that there is nothing to freeze.
    """
    in_units, hooks = set(), []
    for name, module in model.named_modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, BatchNorm):
            module.frozen = True
            module.folded = fold and type(module.norm) is nn.BatchNorm2d and module.norm.affine
            in_units.add(module.norm)
        if isinstance(module, BatchNorm):
            if module.running_mean is None:
                raise ValueError(f"{name} is a batch norm without running statistics: it cannot be frozen")
            if module not in in_units and _stay_frozen not in module._forward_pre_hooks.values():
                hooks.append(module.register_forward_pre_hook(_stay_frozen))  # in a block of the caller's own
            module.eval()
    return hooks


def _stay_frozen(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    norm.eval()


def pad_same(x: Tensor, *, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Pad (N, C, H, W) as TensorFlow's SAME: outputs are ceil(size / stride), an odd total goes right and bottom.

    Source: TensorFlow's documentation of tf.nn.convolution, "SAME".
    """
    pads: list[int] = []
    for axis in (1, 0):  # F.pad begins with the last dimension
        size = int(x.shape[2 + axis]) if torch.jit.is_tracing() else x.shape[2 + axis]  # a trace keeps one size
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        total = torch.sym_max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
        pads += [total // 2, total - total // 2]  # type: ignore[list-item]  # SymInt while exporting
    return F.pad(x, pads)


def mean_of_places(x: Tensor) -> Tensor:
    """(N, D, h, w) -> (N, D)."""
    return x.mean(dim=(2, 3), keepdim=True).flatten(1)  # without keepdim, LiteRT transposes the map: a copy


def pool_everywhere(x: Tensor, *, kernel: int, before: tuple[int, int], dilation: int) -> Tensor:
    """Max-pooling at every place: (N, C, h, w) -> the same size.

    Args:
        before: how far a window reaches up and left of its place, in steps of the dilation.
    """
    pads: list[int] = []
    for reach in reversed(before):  # F.pad begins with the last dimension
        pads += [reach * dilation, (kernel - 1 - reach) * dilation]
    return F.max_pool2d(F.pad(x, pads, value=float("-inf")), kernel, stride=1, dilation=dilation)


class PoolEverywhere(nn.Module):
    """A max-pooling layer whose stride became a dilation of the layers behind it."""

    def __init__(self, pool: nn.MaxPool2d, *, dilation: int) -> None:
        super().__init__()
        assert isinstance(pool.kernel_size, int) and isinstance(pool.padding, int)
        self.kernel, self.before, self.dilation = pool.kernel_size, pool.padding, dilation

    def forward(self, x: Tensor) -> Tensor:
        return pool_everywhere(x, kernel=self.kernel, before=(self.before, self.before), dilation=self.dilation)


def round_channels(channels: float, *, to: int = 8) -> int:
    """The nearest multiple of `to`, at least one, and never more than 10 % below; 1 rounds to whole channels.

    Source: make_divisible of the authors' MobileNet code; Sandler et al. 2018 do not state it.
    """
    rounded = max(to, int(channels + to / 2) // to * to)
    return rounded + to if rounded < 0.9 * channels else rounded


def initialize(model: nn.Module) -> None:
    """The usual start: He et al. 2015 (fan out) for convolutions, N(0, 0.01) for linear layers, 1 and 0 for norms."""
    for module in model.modules():
        if any(weight.is_meta for weight in module.parameters(recurse=False)):
            continue  # a net without numbers; drawing none takes as long as drawing them
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and module.weight is not None:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
