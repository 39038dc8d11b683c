"""Heat maps over images, and the channels of a layer as one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPACITY = 0.75  # of the hottest place; what contributes nothing stays as it was


def with_heat(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in gray, and over it the heat in a scale from dark purple to yellow, which a color-blind reader sees as
    from dark to light.

    Args:
        image: (H, W, 3) uint8. heat: (H, W) from 0 to 1.

    Raises:
        ValueError: their sizes differ.
    """
    if image.shape[:2] != heat.shape:
        raise ValueError(f"image and heat map must have the same size, got {image.shape[:2]} and {heat.shape}")
    gray = (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    opacity = OPACITY * heat[..., None]
    return np.asarray((gray * (1 - opacity) + scale(heat) * opacity).round().astype(np.uint8))


def scale(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) from 0 to 1 -> (H, W, 3) from 0 to 255, by matplotlib's "plasma": its lightness rises evenly."""
    import matplotlib as mpl

    return np.asarray(mpl.colormaps["plasma"](heat)[..., :3] * 255, dtype=np.float32)


def channel_pictures(maps: NDArray[np.float32], order: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """One picture per channel, each from 0 to its own largest value; below 0 is black.

    Args:
        maps: (C, h, w). order: channels to show.
    """
    pictures = []
    for channel in order:
        part = maps[channel].clip(0)
        pictures.append(scale(part / max(float(part.max()), 1e-12)).round().astype(np.uint8))
    return pictures
