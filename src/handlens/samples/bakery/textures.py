"""Noise, smooth steps and colors that breads and tables are made of.

The pixels must be the same on every system. So images are made with +, -, *, / and square roots only, which IEEE
754 rounds in one way, and with OpenCV on uint8, which counts in whole numbers; NumPy's sin or exp and OpenCV on
floats differ between processors in the last bit. Colors are linear light: the square of sRGB / 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]  # (H, W)
Colors = NDArray[np.floating[Any]]  # (H, W, 3) linear light, 0 to 1


def step(x: Plane, low: float, high: float) -> Plane:
    """0 up to `low`, 1 from `high`, smooth between; falling where low > high."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def ridge(x: Plane, width: float) -> Plane:
    """1 where x is 0, falling to 0 at a distance of `width`: cracks, veins, folds."""
    return np.clip(1 - np.abs(x) / np.float32(width), 0, 1)


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Plane:
    """Smooth random hills in [-1, 1], each about `cell` = (height, width) pixels large."""
    rows, row_part = _steps(rng, shape[0], cell[0])
    columns, column_part = _steps(rng, shape[1], cell[1])
    values = rng.random((int(rows[-1]) + 2, int(columns[-1]) + 2), dtype=np.float32) * 2 - 1
    lines = values[rows] + (values[rows + 1] - values[rows]) * row_part[:, None]
    left = lines[:, columns]
    hills = lines[:, columns + 1]
    hills -= left
    hills *= column_part
    hills += left
    return hills


def linear(*rgb: float) -> NDArray[np.float32]:
    """sRGB values, 0 to 255, as linear light."""
    return np.asarray((np.array(rgb, dtype=np.float32) / 255) ** 2, dtype=np.float32)


def mix(colors: Colors, other: NDArray[np.float32], share: Plane) -> Colors:
    """`share` (0 to 1) of `other`, the rest of `colors`."""
    mixed = other - colors
    mixed *= share[:, :, None]  # in place: a fresh plane costs more than the arithmetic
    mixed += colors
    return mixed


def palette(*stops: tuple[float, tuple[int, int, int]]) -> NDArray[np.float32]:
    """(256, 3) linear light: colors at given places from 0 to 1, and straight lines between them."""
    places = np.arange(256) / 255
    table = [np.interp(places, [place for place, _ in stops], [rgb[c] for _, rgb in stops]) for c in range(3)]
    return linear(*np.array(table).T.reshape(-1)).reshape(256, 3)


@dataclass(frozen=True)
class Patch:
    """The pixels of a bread's window in the bread's own coordinates.

    Attributes:
        u, v: (H, W) position; the unit is half the bread's length.
        scale: pixels per unit.
    """

    u: Plane
    v: Plane
    scale: float
    rng: np.random.Generator

    def noise(self, cell: float) -> Plane:
        """Hills of `cell` units, never finer than a pixel and a half."""
        pixels = max(1.5, cell * self.scale)
        shape: tuple[int, int] = self.u.shape
        return noise(self.rng, shape, (pixels, pixels))

    def around(self, u: float, v: float, reach: float) -> tuple[slice, slice]:
        """Rows and columns of all pixels within `reach` of (u, v) along both axes, and some more."""
        reach += 13 / self.scale  # a pixel lies at most 7 rows and 7 columns from one of every eighth, seen aslant
        near = (np.abs(self.u[::8, ::8] - u) < reach) & (np.abs(self.v[::8, ::8] - v) < reach)
        rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if not len(rows):
            return slice(0), slice(0)
        return slice(8 * rows[0], 8 * rows[-1] + 8), slice(8 * columns[0], 8 * columns[-1] + 8)

    def specks(self, where: NDArray[np.bool_], count: int, *, length: float, width: float) -> Plane:
        """How much of each pixel lies under one of `count` small ellipses with centers in `where`; sizes in units."""
        cover = np.zeros(self.u.shape, dtype=np.uint8)
        places = np.flatnonzero(where)
        if len(places):
            picked = places[self.rng.integers(len(places), size=count)]
            angles = self.rng.integers(180, size=count)
            sizes = self.rng.uniform(0.75, 1.25, size=count) * self.scale * 8  # eighths of a pixel, see shift
            for place, angle, size in zip(picked.tolist(), angles.tolist(), sizes.tolist(), strict=True):
                y, x = divmod(place, len(cover[0]))
                axes = (max(4, round(size * length)), max(4, round(size * width)))
                cv2.ellipse(cover, (8 * x, 8 * y), axes, angle, 0, 360, 255, -1, cv2.LINE_AA, shift=3)
        return cover.astype(np.float32) / 255


def _steps(rng: np.random.Generator, length: int, cell: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    at = np.arange(length, dtype=np.float32) / np.float32(cell) + rng.random(dtype=np.float32)
    whole = at.astype(np.intp)
    part = at - whole.astype(np.float32)
    return whole, part * part * (3 - 2 * part)
