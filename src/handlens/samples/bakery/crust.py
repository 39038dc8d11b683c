"""What every bread is made of: outlines, a color for each degree of baking, flour and seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlens.samples.bakery.textures import Colors, Patch, Plane, linear, mix, palette, step

WHEAT = palette(
    (0.0, (244, 226, 188)), (0.25, (232, 190, 124)), (0.5, (206, 138, 64)), (0.72, (158, 88, 36)), (1.0, (78, 40, 20))
)
RYE = palette((0.0, (196, 160, 120)), (0.4, (146, 98, 60)), (0.7, (98, 58, 34)), (1.0, (48, 28, 20)))
FLOUR = linear(246, 240, 228)
SESAME, POPPY, SALT = linear(246, 228, 184), linear(38, 38, 46), linear(250, 250, 248)


@dataclass(frozen=True)
class Surface:
    """
    Attributes:
        edge: (H, W) distance to the outline, positive inside; near enough to true only close to it.
        height: (H, W) above the table.
        colors: (H, W, 3) linear light, unlit.
        gloss: 0 (flour) to 1 (egg wash).
    """

    edge: Plane
    height: Plane
    colors: Colors
    gloss: float


def distance(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y)


def dome(x: Plane) -> Plane:
    """Half a circle: 1 at x = 0, 0 from |x| = 1."""
    return np.sqrt(np.clip(1 - x * x, 0, 1))


def crust(table: NDArray[np.float32], bake: Plane) -> Colors:
    """From dough (0) to burnt (1)."""
    return table[(np.clip(bake, 0, 1) * 255).astype(np.uint8)]


def floured(patch: Patch, colors: Colors, where: Plane, amount: float) -> Colors:
    dust = step(patch.noise(0.35) + 0.5 * patch.noise(0.09) + 0.5 * patch.noise(0.025), 0.7 - 1.2 * amount, 1.2)
    return mix(colors, FLOUR, np.float32(0.85) * dust * where)


def strewn(
    patch: Patch,
    where: NDArray[np.bool_],
    colors: Colors,
    height: Plane,
    *,
    color: NDArray[np.float32],
    count: int,
    length: float,
    width: float,
) -> tuple[Colors, Plane]:
    """Colors and height with grains strewn on; sizes in the patch's unit."""
    grains = patch.specks(where, count, length=length, width=width)
    return mix(colors, color, np.float32(0.92) * grains), height + np.float32(0.6 * width) * grains


def rounded_box(u: Plane, v: Plane, *, half: tuple[float, float], corner: float) -> Plane:
    """Distance to the outline of a rectangle with round corners, positive inside."""
    x, y = np.abs(u) - np.float32(half[0] - corner), np.abs(v) - np.float32(half[1] - corner)
    outside = distance(np.maximum(x, 0), np.maximum(y, 0))
    return np.float32(corner) - outside - np.minimum(np.maximum(x, y), 0)
