"""The training transform of an image and its boxes, and mosaics of four."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from handlens.data.augment import Moves, color_steps, flips, side_factors
from handlens.data.seeds import seed_for, seed_torch
from handlens.data.window import random_window, taken_by, uniform, xyxy
from handlens.preprocess import Preprocess

ASPECT = math.log(4 / 3)  # the most that RandomResizedCrop distorts; boxes are distorted alike


CROP_TRIES = 10  # for a crop that keeps an object


Boxed = tuple[Tensor, tv_tensors.BoundingBoxes, Tensor]


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
    moves = Moves(
        preprocess,
        side_factors(crop_area, 2.0 if zoom_out is None else zoom_out),
        flips(flip, vertical_flip),
        v2.Compose(color_steps(preprocess, color)),
    )
    return partial(_with_its_boxes, moves)


def _with_its_boxes(moves: Moves, image: Tensor, boxes: tv_tensors.BoundingBoxes, labels: Tensor) -> Boxed:
    if len(boxes) != len(labels):
        raise ValueError(f"boxes and labels must have the same length, got {len(boxes)} and {len(labels)}")
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
