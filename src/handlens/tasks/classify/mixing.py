"""Images of a batch blended with one another, and their targets alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from handlens.data.seeds import seed_for, seed_torch


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
