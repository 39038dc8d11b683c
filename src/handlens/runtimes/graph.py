"""DeployGraph: the arithmetic of Preprocess, the net and the task's last step as one module.

uint8 images in, answers out, so that an app needs no normalization code. Every engine runs this graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.preprocess import Preprocess
from handlens.runtimes.engine import Arrays

LUMA = (19595, 38470, 7471)  # of red, green and blue, in units of 2^-16: ITU-R 601-2, Pillow's Convert.c


class LastStep(Protocol):
    """A task's: from what the net gives to the graph's outputs."""

    def __call__(self, net: nn.Module, raw: Any, *, suppress: bool) -> Tensor | tuple[Tensor, ...]: ...


class DeployGraph(nn.Module):
    """What is exported and what every engine runs; the task says what its outputs are and how they are named.

    forward: images (N, height, width, C) uint8, already at the net's size -> the task's outputs, for example
    probabilities (N, K) float32.

    Args:
        last_step: `Task.last_step`.
        suppress: False leaves non-maximum suppression to the app, where the task has one.
    """

    def __init__(self, net: nn.Module, preprocess: Preprocess, *, last_step: LastStep, suppress: bool = True) -> None:
        super().__init__()
        self.net = net
        self.scale = Scale(preprocess)
        self.last_step = last_step
        self.suppress = suppress

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.last_step(self.net, self.net(self.scale(images)), suppress=self.suppress)

    def arrays(self, images: NDArray[np.uint8], outputs: Sequence[str]) -> Arrays:
        """The outputs (N, ...) by name, computed by PyTorch.

        Args:
            outputs: their names, in order.
        """
        with torch.inference_mode():
            answer = self(torch.tensor(images))
        parts = answer if isinstance(answer, tuple) else (answer,)
        return {name: part.numpy() for name, part in zip(outputs, parts, strict=True)}


class EmbedGraph(nn.Module):
    """The frozen backbone alone: images (N, height, width, C) uint8 -> features (N, D) float32."""

    def __init__(self, net: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.net = net
        self.scale = Scale(preprocess)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.embed(self.scale(images))  # type: ignore[operator]


class HeadGraph(nn.Module):
    """What a DeployGraph does with an EmbedGraph's features: (N, D) float32 -> the task's outputs.

    The last step is handed the classifier in place of the net: those of tasks with a head ask nothing of it.
    """

    def __init__(self, classifier: nn.Linear, *, last_step: LastStep) -> None:
        super().__init__()
        self.classifier = classifier
        self.last_step = last_step

    def forward(self, features: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.last_step(self.classifier, self.classifier(features), suppress=True)


class ResizingGraph(nn.Module):
    """A DeployGraph that takes images of any size (1, H, W, 3) uint8 and resizes them inside.

    An antialiased bilinear resize is one matrix product over the rows and one over the columns; cutting the
    center out is taking fewer rows of those matrices. It needs no resize operator, of which every runtime has another,
    and gives Pillow's pixels to the last level: weights are made of whole numbers, and sums stay below 2^24, where
    float32 is exact.
    """

    def __init__(self, graph: DeployGraph, preprocess: Preprocess) -> None:
        super().__init__()
        if preprocess.resize == "pad":
            raise ValueError(f"the resize inside a graph supports crop and stretch, got {preprocess}")
        self.deployed = graph  # not "graph": exporters keep their own under that name
        self.preprocess = preprocess

    def forward(self, images: Tensor) -> Tensor:
        wanted = self.preprocess
        # Sizes as tensors made from the image itself: a traced or exported graph keeps them open.
        along_height = torch.ones_like(images[0, :, 0, 0], dtype=torch.int64)  # (H,)
        along_width = torch.ones_like(images[0, 0, :, 0], dtype=torch.int64)  # (W,)
        height, width = along_height.sum(), along_width.sum()
        if wanted.resize == "crop":
            short = torch.minimum(height, width)
            new_height = _quotient(wanted.short_side * height, short)
            new_width = _quotient(wanted.short_side * width, short)
        else:
            new_height, new_width = height * 0 + wanted.height, width * 0 + wanted.width
        rows = resize_weights(along_height, new_height, _half(new_height - wanted.height), wanted.height)
        columns = resize_weights(along_width, new_width, _half(new_width - wanted.width), wanted.width)
        x = images.to(torch.float32).permute(0, 3, 1, 2)  # (1, 3, H, W)
        x = _levels(*(x @ part.T for part in columns))  # (1, 3, H, width)
        x = _levels(*(part @ x for part in rows))  # (1, 3, height, width)
        if wanted.color == "gray":
            x = _luma(x)
        return self.deployed(x.permute(0, 2, 3, 1).to(torch.uint8))


class Scale(nn.Module):
    """(N, H, W, C) uint8 -> (N, C, H, W) float32, (pixel / 255 - mean) / std as one multiply and one add."""

    multiply: Tensor
    add: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean = torch.tensor(preprocess.mean, dtype=torch.float64)
        std = torch.tensor(preprocess.std, dtype=torch.float64)
        self.register_buffer("multiply", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("add", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(torch.float32) * self.multiply + self.add).permute(0, 3, 1, 2)


def resize_weights(along: Tensor, new_size: Tensor, first: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows `first` to `first + count` of the (new_size, size) matrix that resizes one axis, in units of 2^-22.

    Args:
        along: (size,) ones. new_size, first: shape (). All int64, of values that 32 bits hold.

    Returns:
        coarse and fine, (count, size) float32 whole numbers: a weight is 2048 * coarse + fine, and fine lies between
        -1024 and 1023. Products of either with levels, summed, are exact in float32 up to 64 times smaller.

    Source: Pillow's resampling (Resample.c): a triangle as wide as one output pixel, never narrower than
    one input pixel, its weights divided by their sum and rounded to 22 bits.
    """
    size = along.sum()
    # In halves of a pixel of either grid, times the size of the other: all distances are whole numbers.
    centers = (2 * (torch.arange(count) + first) + 1) * size  # (count,)
    positions = (2 * along.cumsum(0) - 1) * new_size  # (size,)
    distances = (positions[None, :] - centers[:, None]).abs()
    part = (2 * torch.maximum(size, new_size) - distances).clamp(min=0)
    total = part.sum(dim=1, keepdim=True)
    # part / total * 2^22 by long division, a few bits at a time: 32 bits hold no more, and where a runtime divides
    # whole numbers as float32, a digit that is wrong by one is made good by the next.
    digits = []
    for bits in (6, 5, 6):
        digits.append(_quotient(part * 2**bits, total))
        part = part * 2**bits - digits[-1] * total
    coarse = digits[0] * 32 + digits[1]
    fine = digits[2] * 32 + _quotient(part * 64 + total, 2 * total)  # the last five bits, rounded
    carry = (fine >= 1024).to(torch.int64)
    return (coarse + carry).to(torch.float32), (fine - 2048 * carry).to(torch.float32)


def _levels(coarse: Tensor, fine: Tensor) -> Tensor:
    """Sums over weights and levels, coarse / 2^11 + fine / 2^22, rounded to whole levels as Pillow does: halves up."""
    coarse = coarse / 2**11
    whole = coarse.floor()
    return (whole + (coarse - whole + fine / 2**22 + 0.5).floor()).clamp(0, 255)


def _luma(x: Tensor) -> Tensor:
    """(N, 3, H, W) levels -> (N, 1, H, W), as Pillow's "L" has them: sums of whole numbers below 2^24."""
    red, green, blue = (weight * x[:, channel : channel + 1] for channel, weight in enumerate(LUMA))
    return ((red + green + blue + 2**15) / 2**16).floor()


def _half(margin: Tensor) -> Tensor:
    """round(margin / 2) as Python rounds, ties to even."""
    half = _quotient(margin, 2)
    odd, odd_half = margin - 2 * half, half - 2 * _quotient(half, 2)
    return half + odd * odd_half


def _quotient(dividend: Tensor, divisor: Tensor | int) -> Tensor:
    return torch.div(dividend, divisor, rounding_mode="floor")
