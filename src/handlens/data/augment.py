"""Training transforms from torchvision.transforms.v2, one pipeline per task, and the mixing of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from handlens.data.seeds import seed_for, seed_torch
from handlens.data.window import random_window, taken_by, uniform, xyxy
from handlens.preprocess import PADDING, Preprocess

ASPECT = math.log(4 / 3)  # the most that RandomResizedCrop distorts; boxes are distorted alike
CROP_TRIES = 10  # for a crop that keeps an object

Boxed = tuple[Tensor, tv_tensors.BoundingBoxes, Tensor]


def classification_augment(
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
    return v2.Compose([*steps, *_colors(preprocess, color)])


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


def segmentation_augment(
    preprocess: Preprocess,
    *,
    flip: float,
    crop_area: float,
    color: float,
    zoom_out: float | None = None,
    vertical_flip: float = 0.0,
) -> Callable[[Tensor, tv_tensors.Mask], tuple[Tensor, tv_tensors.Mask]]:
    """(3, H, W) uint8 and its mask (H, W) uint8, any size -> (C, height, width) and (height, width), moved alike.

    The image is resized with antialiasing, the mask by nearest neighbor. Around the image, where it does not
    fill the net's input, pixels are gray and IGNORE.

    Args:
        flip, vertical_flip: probabilities of mirroring left and right, up and down.
        crop_area: the smallest crop, as a share of the area that Preprocess takes.
        color: as in classification_augment.
        zoom_out: how many times longer than what Preprocess takes the sides of what is seen can be; 1 is never, None
            is 1.25.

    Raises:
        ValueError: crop_area or zoom_out out of range; from the transform: a mask of another size than its image.
    """
    moves = _Moves(
        preprocess,
        _side_factors(crop_area, 1.25 if zoom_out is None else zoom_out),
        _flips(flip, vertical_flip),
        v2.Compose(_colors(preprocess, color)),
    )
    return partial(_with_its_mask, moves)


@dataclass(frozen=True)
class _Moves:
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


def _with_its_mask(moves: _Moves, image: Tensor, mask: tv_tensors.Mask) -> tuple[Tensor, tv_tensors.Mask]:
    if image.shape[-2:] != mask.shape[-2:]:
        raise ValueError(f"image and mask must have one size, got {image.shape} and {mask.shape}")
    size = (image.shape[-2], image.shape[-1])
    window = random_window(size, taken_by(moves.preprocess, size), moves.shape, scale=moves.scale, aspect=0)
    image, mask = moves.mirror(tv_tensors.Image(window.image(image)), tv_tensors.Mask(window.mask(mask)))
    return moves.recolor(image), mask


def detection_augment(
    preprocess: Preprocess,
    *,
    flip: float,
    crop_area: float,
    color: float,
    zoom_out: float | None = None,
    vertical_flip: float = 0.0,
) -> Callable[[Tensor, tv_tensors.BoundingBoxes, Tensor], Boxed]:
    """(3, H, W) uint8, its boxes and their labels -> (C, height, width) and the boxes that are left in it.

    Boxes are (N, 4) left, top, right, bottom in pixels, before and after. They are cut at the frame; one of which
    less than 30 % of the area or less than 2 pixels of a side is left is dropped with its label. A crop that would
    leave no object is drawn again, at most ten times; then what Preprocess takes is taken.

    Args:
        flip, vertical_flip: probabilities of mirroring left and right, up and down.
        crop_area: the smallest crop, as a share of the area that Preprocess takes.
        color: as in classification_augment.
        zoom_out: how many times longer than what Preprocess takes the sides of what is seen can be; 1 is never, None
            is 2. Small objects are learned from it.

    Raises:
        ValueError: crop_area or zoom_out out of range; from the transform: boxes and labels of different number.

    Source: the crop and the expansion of Liu et al. 2016, arXiv:1512.02325, section 3.6, as one draw.
    """
    moves = _Moves(
        preprocess,
        _side_factors(crop_area, 2.0 if zoom_out is None else zoom_out),
        _flips(flip, vertical_flip),
        v2.Compose(_colors(preprocess, color)),
    )
    return partial(_with_its_boxes, moves)


def _with_its_boxes(moves: _Moves, image: Tensor, boxes: tv_tensors.BoundingBoxes, labels: Tensor) -> Boxed:
    if len(boxes) != len(labels):
        raise ValueError(f"boxes and labels must be as many, got {len(boxes)} and {len(labels)}")
    size = (image.shape[-2], image.shape[-1])
    taken = taken_by(moves.preprocess, size)
    for _ in range(CROP_TRIES):
        window = random_window(size, taken, moves.shape, scale=moves.scale, aspect=ASPECT)
        kept_boxes, kept_labels = window.boxes(boxes, labels)
        if len(kept_boxes) or not len(boxes):
            break
    else:
        window = random_window(size, taken, moves.shape, scale=(1, 1), aspect=0)
        kept_boxes, kept_labels = window.boxes(boxes, labels)
    image, kept_boxes = moves.mirror(tv_tensors.Image(window.image(image)), kept_boxes)
    return moves.recolor(image), kept_boxes, kept_labels


def mosaic(samples: Sequence[Boxed], *, height: int, width: int, key: tuple[int | str, ...]) -> Boxed:
    """Four images with boxes as one (3, height, width): more objects, and smaller ones, in every batch.

    They meet at a random point of the middle; from each a random part is cut that fills its corner without
    distortion. Boxes are cut and dropped as in `detection_augment`.

    Raises:
        ValueError: not four images, or a size below 8 pixels.

    Source: Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3.
    """
    if len(samples) != 4 or min(height, width) < 8:
        raise ValueError(f"a mosaic is of 4 images and at least 8 x 8, got {len(samples)} and {height} x {width}")
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed_for(*key))
        y, x = (round(side * uniform(0.3, 0.7)) for side in (height, width))
        corners = [
            (top, left, bottom, right) for top, bottom in ((0, y), (y, height)) for left, right in ((0, x), (x, width))
        ]
        canvas = torch.empty(3, height, width, dtype=torch.uint8)
        boxes, labels = [], []
        for (image, image_boxes, image_labels), (top, left, bottom, right) in zip(samples, corners, strict=True):
            size, corner = (image.shape[-2], image.shape[-1]), (bottom - top, right - left)
            fit = min(size[0] / corner[0], size[1] / corner[1])
            window = random_window(size, (corner[0] * fit, corner[1] * fit), corner, scale=(0.5, 1), aspect=0)
            canvas[:, top:bottom, left:right] = window.image(image)
            kept, kept_labels = window.boxes(image_boxes, image_labels)
            boxes.append(kept.as_subclass(Tensor) + torch.tensor([left, top, left, top]))
            labels.append(kept_labels)
    return canvas, xyxy(torch.cat(boxes), height, width), torch.cat(labels)


def smallest_training_decode(preprocess: Preprocess, *, crop_area: float) -> tuple[int, int]:
    """(height, width) that an image must keep so that the smallest crop is not enlarged for want of pixels.

    A crop of a share a of the area is sqrt(a) of each side, up to the aspect ratio 4/3 of RandomResizedCrop.
    """
    enlarge = 1 / math.sqrt(crop_area) * math.sqrt(4 / 3)
    return math.ceil(preprocess.height * enlarge), math.ceil(preprocess.width * enlarge)


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


def mixup(images: Tensor, targets: Tensor, *, alpha: float, key: tuple[int | str, ...]) -> tuple[Tensor, Tensor]:
    """Blend each image and its target with another of the batch.

    Args:
        images: (N, ...) float; targets: (N, K) probabilities.
        alpha: both parameters of the Beta distribution of the share.

    Source: Zhang et al. 2018, arXiv:1710.09412; one share per batch, as the authors' code.
    """
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed_for(*key))
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        order = torch.randperm(len(images)).to(images.device)
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


def cutmix(images: Tensor, targets: Tensor, *, alpha: float, key: tuple[int | str, ...]) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another image of the batch into each; targets are blended by the share of pixels.

    Args:
        images: (N, C, H, W); targets: (N, K) probabilities.
        alpha: both parameters of the Beta distribution of the share of pixels that stays.

    Source: Yun et al. 2019, arXiv:1905.04899, section 3.1; one rectangle per batch, as the authors' code.
    """
    height, width = images.shape[-2:]
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed_for(*key))
        side = math.sqrt(1 - float(torch.distributions.Beta(alpha, alpha).sample()))
        y, x = (int(torch.randint(length, ())) for length in (height, width))
        order = torch.randperm(len(images)).to(images.device)
    half_height, half_width = int(height * side / 2), int(width * side / 2)
    rows = slice(max(0, y - half_height), min(height, y + half_height))
    columns = slice(max(0, x - half_width), min(width, x + half_width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (
        height * width
    )  # what the frame left of it
    return mixed, share * targets + (1 - share) * targets[order]


def _side_factors(crop_area: float, zoom_out: float) -> tuple[float, float]:
    if not 0 < crop_area <= 1 or zoom_out < 1:
        raise ValueError(f"crop_area must be in (0, 1] and zoom_out at least 1, got {crop_area} and {zoom_out}")
    return math.sqrt(crop_area), zoom_out


def _flips(flip: float, vertical_flip: float) -> v2.Transform:
    return v2.Compose([v2.RandomHorizontalFlip(flip), v2.RandomVerticalFlip(vertical_flip)])


def _colors(preprocess: Preprocess, color: float) -> list[torch.nn.Module]:
    """The steps that leave every pixel where it is."""
    steps: list[torch.nn.Module] = [v2.ColorJitter(color, color, color)] if color else [torch.nn.Identity()]
    return [*steps, v2.Grayscale()] if preprocess.color == "gray" else steps
