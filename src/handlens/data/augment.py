"""Training transforms, one pipeline per task, from torchvision.transforms.v2."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.transforms import v2

from handlens.data.seeds import seed_for
from handlens.preprocess import Preprocess


def classification_augment(preprocess: Preprocess, *, flip: float, crop_area: float, colour: float) -> v2.Transform:
    """(3, H, W) uint8, any size -> (C, height, width) uint8, randomly cropped, mirrored and recoloured."""
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop((preprocess.height, preprocess.width), scale=(crop_area, 1.0), antialias=True)
    ]
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if colour:
        steps.append(v2.ColorJitter(colour, colour, colour))
    if preprocess.colour == "grey":
        steps.append(v2.Grayscale())
    return v2.Compose(steps)


def smallest_training_decode(preprocess: Preprocess, *, crop_area: float) -> tuple[int, int]:
    """(height, width) that a picture must keep so that the smallest crop is not enlarged for want of pixels.

    A crop of a share a of the area is sqrt(a) of each side, up to the aspect ratio 4/3 of RandomResizedCrop.
    """
    enlarge = 1 / math.sqrt(crop_area) * math.sqrt(4 / 3)
    return math.ceil(preprocess.height * enlarge), math.ceil(preprocess.width * enlarge)


def seeded(transform: v2.Transform, image: Tensor, *, key: tuple[int | str, ...]) -> Tensor:
    """Apply a random transform so that the result depends on `key` alone, not on the worker or the order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(*key))
        result: Tensor = transform(image)
    return result


def mixup(images: Tensor, targets: Tensor, *, alpha: float, key: tuple[int | str, ...]) -> tuple[Tensor, Tensor]:
    """Blend each picture and its target with another of the batch.

    Args:
        images: (N, ...) float; targets: (N, K) probabilities.
        alpha: both parameters of the Beta distribution of the share.

    Source: Zhang et al. 2018, arXiv:1710.09412; one share per batch, as the authors' code.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(*key))
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        order = torch.randperm(len(images)).to(images.device)
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]
