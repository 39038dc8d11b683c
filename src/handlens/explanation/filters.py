"""What a channel looks for: an image, made from noise, that it answers most to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.explanation.maps import hooked
from handlens.preprocess import Preprocess

# From three independent numbers to the correlated red, green and blue of photographs: square root of the covariance of
# ImageNet's pixels, by Olah et al. 2017 (the code beside the article), divided by its largest column.
COLORS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
LEARNING_RATE = 0.05  # of Adam; Olah et al. 2017
NOISE = 0.01  # standard deviation at the start; Olah et al. 2017


class _LayerReachedError(Exception):
    """The layer's map is there: what lies behind it need not run."""


@dataclass(frozen=True)
class Ascent:
    """
    Attributes:
        steps: of gradient ascent.
        jitter: pixels that the image is moved by, at random, before each step; 0 is without.
        blur: standard deviation in pixels of a Gaussian before each step; 0 is without.
        natural_colors: the image is sought among the spectra and colors that photographs have, instead of pixel by
            pixel.
        seed: of the noise and the jitter.
    """

    steps: int = 128
    jitter: int = 8
    blur: float = 0.0
    natural_colors: bool = True
    seed: int = 0


def first_kernels(net: nn.Module, layer: str) -> NDArray[np.uint8] | None:
    """The kernels of a convolution that takes the image itself: (C, k, k, 3 or 1) uint8, each from its least to its
    largest weight; None where the layer is not one such convolution."""
    module = dict(net.named_modules())[layer]
    first = next((part for part in net.modules() if isinstance(part, nn.Conv2d)), None)
    inside = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    if first is None or inside != [first] or first.groups != 1 or first.in_channels not in (1, 3):
        return None
    weights = first.weight.detach().permute(0, 2, 3, 1)  # (C, k, k, in)
    low, high = weights.amin(dim=(1, 2, 3), keepdim=True), weights.amax(dim=(1, 2, 3), keepdim=True)
    return np.asarray(((weights - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8).numpy())


def images_by_gradient_ascent(
    net: nn.Module,
    layer: str,
    channels: Sequence[int],
    preprocess: Preprocess,
    *,
    ascent: Ascent,
    progress: Callable[[int, int], None],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One image per channel, which raises the mean of its map.

    Returns:
        (C, H, W, 3) uint8; (C,) the mean that was reached.

    Raises:
        InputError: the layer has no such channel, or the images are too small for this blur.

    Source: Erhan et al. 2009; Olah et al. 2017, "Feature Visualization", doi:10.23915/distill.00007.
    """
    height, width, colors = preprocess.height, preprocess.width, preprocess.channels
    if math.ceil(2 * ascent.blur) >= min(height, width):
        raise InputError(f"a blur of {ascent.blur:g} pixels is too much for images of {height} x {width}; use less.")
    generator = torch.Generator().manual_seed(ascent.seed)
    shape = (len(channels), colors, height, width // 2 + 1, 2) if ascent.natural_colors else None
    start = torch.randn(shape or (len(channels), colors, height, width), generator=generator) * NOISE
    numbers = start.requires_grad_()
    optimizer = torch.optim.Adam([numbers], lr=LEARNING_RATE)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocess.mean, preprocess.std))
    made: list[Tensor] = []
    runs = math.inf  # of the layer, in one pass
    reached = torch.zeros(len(channels))

    def keep(_name: str, output: Tensor) -> None:
        made.append(output)
        if len(made) == runs:
            raise _LayerReachedError

    with torch.enable_grad(), hooked(net, [layer], keep):
        for step in range(ascent.steps):
            made.clear()
            pixels = _pixels(numbers, height, width, natural=ascent.natural_colors)
            with suppress(_LayerReachedError):
                net((_disturbed(pixels, ascent, generator) - mean) / std)
            runs = len(made)
            if max(channels) >= made[-1].shape[1]:
                raise InputError(f"{layer} has {made[-1].shape[1]} channels, got {max(channels)}.")
            values = torch.stack([made[-1][place, channel].mean() for place, channel in enumerate(channels)])
            [numbers.grad] = torch.autograd.grad(-values.sum(), [numbers])  # without those of the weights
            optimizer.step()
            reached = values.detach()
            progress(step + 1, ascent.steps)
    final = _pixels(numbers.detach(), height, width, natural=ascent.natural_colors)
    if colors == 1:
        final = final.expand(-1, 3, -1, -1)
    return np.asarray((final * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()), reached.numpy()


def _pixels(numbers: Tensor, height: int, width: int, *, natural: bool) -> Tensor:
    """(N, C, H, W) from 0 to 1. `natural`: from a spectrum in which fine detail costs as much as coarse."""
    if not natural:
        return numbers.sigmoid()
    vertical = torch.fft.fftfreq(height)[:, None]
    horizontal = torch.fft.rfftfreq(width)[None]
    frequency = (vertical.square() + horizontal.square()).sqrt().clamp(min=1 / max(height, width))
    spectrum = torch.view_as_complex(numbers) / frequency
    image = torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
    if image.shape[1] == 3:
        image = torch.einsum("ij,njhw->nihw", COLORS / COLORS.norm(dim=0).max(), image)
    return image.sigmoid()


def _disturbed(pixels: Tensor, ascent: Ascent, generator: torch.Generator) -> Tensor:
    if ascent.jitter:
        down, right = torch.randint(-ascent.jitter, ascent.jitter + 1, (2,), generator=generator).tolist()
        pixels = pixels.roll((down, right), dims=(2, 3))
    if ascent.blur:
        half = math.ceil(2 * ascent.blur)
        along = torch.exp(-torch.arange(-half, half + 1).square() / (2 * ascent.blur**2))
        along = (along / along.sum()).view(1, 1, -1, 1)
        count = pixels.shape[1]
        for kernel, pad in ((along, (0, 0, half, half)), (along.transpose(2, 3), (half, half, 0, 0))):
            pixels = F.conv2d(F.pad(pixels, pad, mode="reflect"), kernel.expand(count, 1, -1, -1), groups=count)
    return pixels
