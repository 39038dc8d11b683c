"""Training transforms: that of images whose labels stay where they are, and what those of masks and boxes share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from handlens.data.seeds import seed_for, seed_torch
from handlens.data.window import uniform
from handlens.preprocess import PADDING, Preprocess


def image_augment(
    preprocess: Preprocess,
    *,
    flip: float,
    crop_area: float,
    color: float,
    trivial: bool = False,
    vertical_flip: float = 0.0,
    rotate: float = 0.0,
) -> v2.Transform:
    """(3, H, W) uint8, any size -> (C, height, width) uint8, randomly cropped, turned, mirrored and recolored.

    Args:
        flip, vertical_flip: probabilities of mirroring left and right, up and down.
        crop_area: the smallest crop, as a share of the image's area; 1 takes what Preprocess takes, to the last
            level.
        color: how far brightness, contrast and saturation go; 0.3 is 0.7 to 1.3 times.
        trivial: one more random operation of a random strength (Müller and Hutter 2021, arXiv:2103.10158).
        rotate: degrees, the most that it is turned either way.
    """
    size = (preprocess.height, preprocess.width)
    steps: list[torch.nn.Module] = [
        WholeImage(preprocess) if crop_area == 1 else v2.RandomResizedCrop(size, scale=(crop_area, 1.0), antialias=True)
    ]
    if rotate:
        steps.append(Rotate(rotate))
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(vertical_flip))
    if trivial:
        steps.append(TrivialAugment())
    return v2.Compose([*steps, *color_steps(preprocess, color)])


class WholeImage(torch.nn.Module):
    """What Preprocess makes of an image: (3, H, W) uint8 -> (C, height, width) uint8.

    RandomResizedCrop with a scale of 1 alone would try ten random shapes in vain for each image, and then take
    another part of it than validation and prediction do.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.preprocess = preprocess

    def forward(self, image: Tensor) -> Tensor:
        return to_tensor(self.preprocess.pixels(image.permute(1, 2, 0).numpy()))


class Rotate(torch.nn.Module):
    """Turn an image about its middle by up to `degrees` either way; it is mirrored at its edges, so that corners are
    filled with more of the same: (C, H, W) uint8 -> the same size.

    An image more than about three times as long as wide has gray 114 where mirroring once does not reach.
    """

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees

    def forward(self, image: Tensor) -> Tensor:
        angle = uniform(-self.degrees, self.degrees)
        height, width = image.shape[-2:]
        sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
        beyond_x = math.ceil(max(0.0, width * cosine + height * sine - width) / 2)
        beyond_y = math.ceil(max(0.0, width * sine + height * cosine - height) / 2)
        margins = [min(beyond_x, width - 1), min(beyond_y, height - 1)]
        wider = F.pad(image, margins, padding_mode="reflect")
        turned = F.rotate(wider, angle, interpolation=InterpolationMode.BILINEAR, fill=PADDING)
        return F.center_crop(turned, [height, width])


class TrivialAugment(v2.TrivialAugmentWide):
    """TrivialAugment for images alone: it turns and shears them, and would leave their targets where they were.

    Raises:
        ValueError: boxes or a mask come with the image.
    """

    def forward(self, *inputs: Any) -> Any:
        for item in inputs:
            if isinstance(item, (tv_tensors.Mask, tv_tensors.BoundingBoxes)):
                raise ValueError(
                    f"TrivialAugment is for classification: it would move the image without its {type(item).__name__}."
                )
        return super().forward(*inputs)


def smallest_training_decode(preprocess: Preprocess, *, crop_area: float) -> tuple[int, int]:
    """(height, width) that an image must keep so that the smallest crop is not enlarged for want of pixels.

    A crop of a share a of the area is sqrt(a) of each side, up to the aspect ratio 4/3 of RandomResizedCrop.
    """
    enlarge = 1 / math.sqrt(crop_area) * math.sqrt(4 / 3)
    return math.ceil(preprocess.height * enlarge), math.ceil(preprocess.width * enlarge)


@dataclass(frozen=True)
class Moves:
    """What a transform of an image with its target draws from. No closure: loader processes get it by pickle.

    Attributes:
        scale: of the sides of what is seen, relative to what Preprocess takes.
    """

    preprocess: Preprocess
    scale: tuple[float, float]
    mirror: v2.Transform
    recolor: v2.Transform

    @property
    def shape(self) -> tuple[int, int]:
        return self.preprocess.height, self.preprocess.width


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, C) -> (C, H, W) of the same memory: the layout that convolutions are fastest in."""
    return torch.from_numpy(image if image.flags.writeable else image.copy()).permute(2, 0, 1)


def seeded(transform: Callable[..., Any], *inputs: Any, key: tuple[int | str, ...]) -> Any:
    """What a random transform makes of an image, alone or with its mask, or its boxes and labels.

    The result depends on `key` alone, not on the worker or the order.
    """
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed_for(*key))
        return transform(*inputs)


def side_factors(crop_area: float, zoom_out: float) -> tuple[float, float]:
    if not 0 < crop_area <= 1 or zoom_out < 1:
        raise ValueError(f"crop_area must be in (0, 1] and zoom_out at least 1, got {crop_area} and {zoom_out}")
    return math.sqrt(crop_area), zoom_out


def flips(flip: float, vertical_flip: float) -> v2.Transform:
    return v2.Compose([v2.RandomHorizontalFlip(flip), v2.RandomVerticalFlip(vertical_flip)])


def color_steps(preprocess: Preprocess, color: float) -> list[torch.nn.Module]:
    """The steps that leave every pixel where it is."""
    steps: list[torch.nn.Module] = [v2.ColorJitter(color, color, color)] if color else [torch.nn.Identity()]
    return [*steps, v2.Grayscale()] if preprocess.color == "gray" else steps
