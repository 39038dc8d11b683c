"""The training transform of an image and its mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from handlens.data.augment import Moves, color_steps, flips, side_factors
from handlens.data.window import random_window, taken_by
from handlens.preprocess import Preprocess


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
    moves = Moves(
        preprocess,
        side_factors(crop_area, 1.25 if zoom_out is None else zoom_out),
        flips(flip, vertical_flip),
        v2.Compose(color_steps(preprocess, color)),
    )
    return partial(_with_its_mask, moves)


def _with_its_mask(moves: Moves, image: Tensor, mask: tv_tensors.Mask) -> tuple[Tensor, tv_tensors.Mask]:
    if image.shape[-2:] != mask.shape[-2:]:
        raise ValueError(f"image and mask must have the same size, got {image.shape} and {mask.shape}")
    size = (image.shape[-2], image.shape[-1])
    window = random_window(size, taken_by(moves.preprocess, size), moves.shape, scale=moves.scale, aspect=0)
    image, mask = moves.mirror(tv_tensors.Image(window.image(image)), tv_tensors.Mask(window.mask(mask)))
    return moves.recolor(image), mask
