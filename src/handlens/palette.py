"""One colour per class, always the same one: of masks, of boxes, of legends."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEVELS = np.array([0, 36, 73, 109, 146, 182, 219, 255])  # of red, green and blue that colours are picked from
AVOIDED = ((0, 0, 0), (128, 128, 128), (255, 255, 255))  # no class looks like text, asphalt or paper
DARKEST = 0.175  # relative luminance; black text on anything lighter has a contrast of 4.5 or more (WCAG 2.1)


def colours(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB: the colours of class 0, 1, 2 ...

    Class i has the same colour however many classes there are. Each colour is the one that differs most from all
    before it. Black text can be read on every one. They begin again where no colour is left, after about 300.

    Raises:
        ValueError: count is negative.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    return np.resize(_all_colours(), (count, 3))


@lru_cache(maxsize=1)
def _all_colours() -> NDArray[np.uint8]:
    """Each next the farthest from its nearest neighbour so far. In whole numbers: the same on every system."""
    grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[_luminance(grid) >= DARKEST]
    nearest = np.min([_difference(grid, np.array(colour)) for colour in AVOIDED], axis=0)
    order = []
    for _ in range(len(grid)):
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _difference(grid, grid[order[-1]]))
        nearest[order[-1]] = -1
    return grid[order].astype(np.uint8)


def _difference(colours: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how different colours look: the square of "redmean", times 256.

    Source: Riemersma, Colour metric, compuphase.com/cmetric.htm.
    """
    red = (colours[:, 0] + other[0]) // 2
    square = (colours - other) ** 2
    return (512 + red) * square[:, 0] + 1024 * square[:, 1] + (767 - red) * square[:, 2]


def _luminance(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) relative luminance, 0 to 1. Source: WCAG 2.1, from sRGB (IEC 61966-2-1)."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))
