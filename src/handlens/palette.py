"""One color per class, always the same one: of masks, of boxes, of legends."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

IGNORE = 255  # in a class map: a pixel of which nothing is said; it counts neither in training nor in the metric
LEVELS = np.array([0, 36, 73, 109, 146, 182, 219, 255])  # of red, green and blue that colors are picked from
AVOIDED = ((0, 0, 0), (128, 128, 128), (255, 255, 255))  # no class looks like text, asphalt or paper
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
DARKEST = 0.175  # relative luminance; black text on anything lighter has a contrast of 4.5 or more (WCAG 2.1)
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def colors(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB: the colors of class 0, 1, 2 ...

    Class i has the same color however many classes there are. Each color is the one that differs most from all
    before it. Black text can be read on every one. They begin again where no color is left, after about 300.

    Raises:
        ValueError: count is negative.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    return np.resize(_all_colors(), (count, 3))


@lru_cache(maxsize=1)
def _all_colors() -> NDArray[np.uint8]:
    """Each next the farthest from its nearest neighbor so far."""
    grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[_linear(grid) @ LUMINANCE >= DARKEST]
    places = _oklab(grid)
    nearest = np.min([_distance(places, _oklab(np.array([color]))) for color in AVOIDED], axis=0)
    order = []
    for _ in range(len(grid)):
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distance(places, places[order[-1:]]))
        nearest[order[-1]] = -1
    return grid[order].astype(np.uint8)


def _oklab(colors: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 3) lightness and two hues, where equal distances look equal; thousandths, so that the last bit of a system's
    roots does not decide. Source: Ottosson 2020, bottosson.github.io/posts/oklab."""
    cones = np.cbrt(_linear(colors) @ CONES.T)
    return np.asarray(np.rint(1000 * cones @ OKLAB.T).astype(np.int64))


def _distance(places: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(((places - other) ** 2).sum(axis=1))


def _linear(colors: NDArray[np.int64]) -> NDArray[np.float64]:
    """sRGB (IEC 61966-2-1) as linear light, 0 to 1."""
    share = colors / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
