"""Ten kinds of bread: an outline, a height and a color for every pixel of a window.

Every function takes a Patch and returns a Surface. Lengths are in the patch's unit, half the bread's length.
The random numbers are our choice, tuned by eye.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from handlens.samples.bakery.crust import (
    POPPY,
    RYE,
    SALT,
    SESAME,
    WHEAT,
    Surface,
    crust,
    distance,
    dome,
    floured,
    rounded_box,
    strewn,
)
from handlens.samples.bakery.textures import Patch, Plane, linear, mix, ridge, step


def bagel(patch: Patch) -> Surface:
    rng = patch.rng
    tube = rng.uniform(0.29, 0.36)
    radius = distance(patch.u, patch.v * rng.uniform(0.94, 1.06)) + 0.03 * patch.noise(0.6)
    away = radius - np.float32(1 - tube)
    edge = tube - np.abs(away)
    height = dome(away / tube) * tube
    bake = rng.uniform(0.36, 0.56) + 0.4 * (height - 0.7 * tube) + 0.08 * patch.noise(0.3) + 0.04 * patch.noise(0.05)
    colors = crust(WHEAT, bake)
    top = height > 0.55 * tube
    topping = rng.choice(["plain", "sesame", "poppy", "both"])
    if topping in ("sesame", "both"):
        colors, height = strewn(patch, top, colors, height, color=SESAME, count=130, length=0.034, width=0.02)
    if topping in ("poppy", "both"):
        colors, height = strewn(patch, top, colors, height, color=POPPY, count=150, length=0.015, width=0.013)
    return Surface(edge, height, colors, rng.uniform(0.3, 0.8))


def baguette(patch: Patch) -> Surface:
    rng = patch.rng
    u, v = patch.u, patch.v - np.float32(rng.uniform(-0.1, 0.1)) * (patch.u * patch.u - 0.4)
    across = np.float32(rng.uniform(0.17, 0.23)) * (1 + 0.1 * patch.noise(0.4))
    width = across * np.sqrt(np.clip(1 - np.square(u * u), 1e-4, 1))
    edge = np.minimum(width - np.abs(v), 1 - np.abs(u))
    height = width * dome(v / width)
    spacing = 1.75 / rng.integers(4, 7)
    along = (u + np.float32(rng.choice([-1, 1]) * rng.uniform(0.8, 1.6)) * v) / np.float32(spacing)
    nearest = np.rint(along)
    inside_cut = 1 - np.square(v / (0.8 * across)) - np.square((along - nearest) / np.float32(0.34))
    inside_cut = np.where(np.abs(nearest * np.float32(spacing)) < 0.85, inside_cut, np.float32(-1))
    cut, rim = step(inside_cut, 0, 0.35), ridge(inside_cut, 0.3)
    bake = rng.uniform(0.48, 0.66) + 0.5 * (height - 0.12) + 0.1 * patch.noise(0.25) + 0.04 * patch.noise(0.03)
    bake += 0.16 * rim - (0.3 + 0.1 * patch.noise(0.06)) * cut
    height += 0.02 * rim - 0.03 * cut + 0.004 * patch.noise(0.04)
    colors = floured(patch, crust(WHEAT, bake), (1 - cut) * (height > 0.06), rng.uniform(0, 0.5))
    return Surface(edge, height, colors, rng.uniform(0.05, 0.3))


def bun(patch: Patch) -> Surface:
    rng = patch.rng
    radius = distance(patch.u, patch.v * rng.uniform(0.95, 1.05)) + 0.02 * patch.noise(0.7)
    edge = 1 - radius
    height = 0.7 * dome(radius)
    bake = 0.2 + rng.uniform(0.3, 0.5) * step(height, 0.1, 0.6) + 0.07 * patch.noise(0.4) + 0.03 * patch.noise(0.05)
    top = rng.choice(["plain", "sesame", "cross"], p=[0.25, 0.5, 0.25])
    if top == "cross":  # two cuts, opened in the oven
        wander = 0.03 * patch.noise(0.3)
        cut = step(np.minimum(np.abs(patch.u + wander), np.abs(patch.v + wander)), 0.09, 0.02) * step(radius, 0.75, 0.6)
        bake -= 0.35 * cut
        height -= 0.06 * cut
    colors = crust(WHEAT, bake)
    if top == "sesame":
        count = int(rng.integers(40, 110))
        colors, height = strewn(
            patch, radius < 0.72, colors, height, color=SESAME, count=count, length=0.042, width=0.026
        )
    return Surface(edge, height, colors, rng.uniform(0.6, 1.0))


def ciabatta(patch: Patch) -> Surface:
    rng = patch.rng
    u, v = patch.u, patch.v / np.float32(rng.uniform(0.42, 0.56))
    u = u + 0.06 * patch.noise(0.5)
    v = v + 0.14 * patch.noise(0.5) + 0.05 * patch.noise(0.15)
    outline = np.square(u * u) + np.square(v * v)
    edge = (1 - outline) * np.float32(0.13)
    height = 0.3 * np.sqrt(np.sqrt(np.clip(1 - outline, 0, 1))) + 0.03 * patch.noise(0.3)
    wrinkle = ridge(patch.noise(0.45) + 0.6 * v, 0.12) + 0.4 * ridge(patch.noise(0.2), 0.1)
    height += 0.012 * patch.noise(0.06) - 0.02 * wrinkle
    bake = rng.uniform(0.26, 0.42) + 0.12 * patch.noise(0.3) + 0.05 * patch.noise(0.04) + 0.12 * wrinkle
    colors = floured(patch, crust(WHEAT, bake), 1 - 0.7 * np.clip(wrinkle, 0, 1), rng.uniform(0.5, 0.9))
    return Surface(edge, height, colors, 0.05)


def croissant(patch: Patch) -> Surface:
    rng = patch.rng
    bend = np.float32(rng.uniform(0.45, 0.8))
    u = patch.u
    slope = 2 * bend * u
    v = (patch.v + np.float32(0.3) - bend * u * u) / np.sqrt(1 + slope * slope)
    rolls = rng.integers(5, 8) / 2
    # Rolls lie over their outer neighbors: the middle one is on top, and each leans towards its tip.
    place = np.abs(u + 0.02 * patch.noise(0.3)) * np.float32(rolls) * (1.15 - 0.15 * np.abs(u)) + 0.5 + 0.5 * v
    roll = np.floor(place)
    across = place - roll
    bulge = np.sqrt(np.clip(1 - np.square(2 * across - 1), 0, 1))
    taper = np.clip(1 - u * u, 0, 1)
    width = np.maximum(0.4 * taper * (0.76 + 0.24 * bulge) * (1 - 0.06 * (roll % 2)), 0.004)
    edge = np.minimum(width - np.abs(v), (1 - np.abs(u)) * np.float32(0.6))
    height = width * dome(v / width) * (0.82 + 0.26 * (1 - across))
    layers = np.abs(across * 4 - np.floor(across * 4) - 0.5) * 2
    bake = rng.uniform(0.42, 0.58) + 0.22 * (bulge - 0.6) + 0.10 * (layers - 0.5) * step(across, 0.15, 0.4)
    bake += 0.1 * patch.noise(0.25) + 0.05 * patch.noise(0.03) + 0.25 * ridge(across - 1, 0.14)
    height += 0.012 * layers + 0.005 * patch.noise(0.04)
    return Surface(edge, height, crust(WHEAT, bake), rng.uniform(0.3, 0.7))


def flatbread(patch: Patch) -> Surface:
    rng = patch.rng
    u, v = patch.u, patch.v / np.float32(rng.uniform(0.72, 1.0))
    radius = distance(u, v * (1 + np.float32(rng.uniform(-0.2, 0.2)) * u)) + 0.05 * patch.noise(0.6)
    edge = 0.96 - radius
    bubbles = step(patch.noise(0.3), 0.2, 0.9)
    height = 0.07 * np.sqrt(np.clip(edge * 8, 0, 1)) + 0.05 * bubbles + 0.012 * patch.noise(0.08)
    char = step(patch.noise(0.14) + 0.4 * patch.noise(0.05) + 0.35 * bubbles, rng.uniform(0.35, 0.6), 1.0)
    bake = rng.uniform(0.05, 0.22) + 0.1 * patch.noise(0.4) + 0.04 * patch.noise(0.05) + 0.75 * char
    bake += 0.12 * step(edge, 0.1, 0.0)
    colors = floured(patch, crust(WHEAT, bake), 1 - char, rng.uniform(0, 0.3))
    return Surface(edge, height, colors, rng.uniform(0, 0.3))


def focaccia(patch: Patch) -> Surface:
    rng = patch.rng
    short = rng.uniform(0.66, 0.9)
    u, v = patch.u + 0.02 * patch.noise(0.3), patch.v + 0.02 * patch.noise(0.3)
    edge = rounded_box(u, v, half=(0.97, short), corner=0.16)
    pitch = np.float32(rng.uniform(0.27, 0.36))
    row = np.rint(v / pitch)
    # A finger's dimple in every cell of a grid, every other row shifted, none quite in line.
    across = u / pitch + 0.5 * (row % 2) + 0.5 * patch.noise(0.5)
    down = v / pitch - row + 0.25 * patch.noise(0.5)
    dimple = step(distance(across - np.rint(across), down), 0.42, 0.1) * step(edge, 0.08, 0.2)
    height = 0.2 * np.sqrt(np.clip(edge * 6, 0, 1)) - 0.09 * dimple + 0.01 * patch.noise(0.06)
    bake = rng.uniform(0.3, 0.44) + 0.12 * patch.noise(0.3) + 0.05 * patch.noise(0.04) - 0.14 * dimple
    bake += 0.22 * step(edge, 0.14, 0.0)
    colors = crust(WHEAT, bake)
    top = edge > 0.14
    topping = rng.choice(["rosemary", "olives", "tomatoes"])
    if topping == "olives":
        olives = patch.specks(top, int(rng.integers(8, 16)), length=0.085, width=0.075)
        colors, height = mix(colors, linear(44, 38, 52), olives), height + 0.05 * step(olives, 0, 1)
    if topping == "tomatoes":
        halves = patch.specks(top, int(rng.integers(6, 12)), length=0.1, width=0.09)
        colors, height = mix(colors, linear(196, 44, 28), halves), height + 0.05 * step(halves, 0, 1)
    needles = patch.specks(top, int(rng.integers(18, 46)), length=0.07, width=0.012)
    colors = mix(colors, linear(64, 84, 40), needles)
    colors, height = strewn(patch, top, colors, height, color=SALT, count=30, length=0.02, width=0.018)
    return Surface(edge, height, colors, rng.uniform(0.4, 0.8))


# One half of a pretzel, from the middle of the belly to the end that rests on it; x, y and half-width.
PRETZEL = (
    (0.0, 0.80, 0.17),
    (0.35, 0.75, 0.165),
    (0.68, 0.50, 0.15),
    (0.86, 0.10, 0.135),
    (0.80, -0.32, 0.125),
    (0.52, -0.58, 0.12),
    (0.22, -0.46, 0.115),
    (0.04, -0.20, 0.11),
    (-0.09, -0.02, 0.105),
    (-0.02, 0.20, 0.10),
    (0.18, 0.40, 0.09),
    (0.40, 0.68, 0.075),
)


def pretzel(patch: Patch) -> Surface:
    rng = patch.rng
    shape: tuple[int, int] = patch.u.shape
    edge, height = np.full(shape, -1, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    met = np.full(shape, -99, dtype=np.float32)  # how far along the strand each pixel was last covered
    strand = np.array(PRETZEL, dtype=np.float32) * np.array([1, 1, rng.uniform(0.9, 1.25)], dtype=np.float32)
    strand[:, :2] += rng.uniform(-0.035, 0.035, size=(len(strand), 2)).astype(np.float32)
    strand[0, 0] = 0
    right = _spline(strand, parts=3)
    left = right * np.array([-1, 1, 1], dtype=np.float32)
    middle, last = 25, len(right) - 1  # the arms cross twice, before and after piece 25: once over, once under
    for points, side, pieces in (
        (right, 1, range(middle)),
        (left, -1, range(last)),
        (right, 1, range(middle, last)),
    ):
        for piece in pieces:  # from the belly outwards; what comes later lies on top
            _lay(patch, points[piece], points[piece + 1], side * (piece + 1), edge, height, met)
    belly = step(patch.v, 0.45, 0.6) * step(np.abs(patch.u), 0.5, 0.35)
    split = step(ridge(patch.v - 0.76 + 0.05 * patch.noise(0.2), 0.07), 0.2, 0.7) * belly * (rng.random() < 0.6)
    bake = rng.uniform(0.62, 0.82) + 0.9 * (height - 0.1) + 0.08 * patch.noise(0.3) + 0.03 * patch.noise(0.04)
    colors = crust(WHEAT, bake - (0.5 + 0.1 * patch.noise(0.05)) * split)
    if rng.random() < 0.75:
        count = int(rng.integers(25, 60))
        colors, height = strewn(
            patch, height > 0.09, colors, height, color=SALT, count=count, length=0.026, width=0.022
        )
    return Surface(edge, height, colors, rng.uniform(0.5, 1.0))


def rye(patch: Patch) -> Surface:
    rng = patch.rng
    u, v = patch.u, patch.v / np.float32(rng.uniform(0.62, 0.95))
    radius = distance(u, v) + 0.025 * patch.noise(0.5)
    edge = 1 - radius
    height = 0.5 * dome(radius)
    marks = rng.choice(["rings", "cuts", "cross", "cracks"])
    pale = np.zeros_like(u)
    if marks == "rings":  # the basket's coils, printed in flour
        coil = radius * np.float32(rng.uniform(5, 7))
        flour = step(np.abs(coil - np.floor(coil) - 0.5), 0.12, 0.3)
    else:
        flour = np.full_like(u, 0.6)
        pattern = u + 0.4 * v + 0.03 * patch.noise(0.3)
        spacing = np.float32(rng.uniform(0.36, 0.5))
        if marks == "cracks":
            pale = step(ridge(patch.noise(0.4) + 0.4 * patch.noise(0.15), 0.12), 0.2, 0.8) * (radius < 0.9)
        else:
            pale = ridge(pattern - spacing * np.rint(pattern / spacing), 0.045)
            if marks == "cross":
                pattern = v - 0.4 * u + 0.03 * patch.noise(0.3)
                pale = np.maximum(pale, ridge(pattern - spacing * np.rint(pattern / spacing), 0.045))
            pale = step(pale, 0.1, 0.6) * step(radius, 0.84, 0.74)
    height += 0.012 * patch.noise(0.06) - 0.05 * pale
    bake = rng.uniform(0.5, 0.75) + 0.1 * patch.noise(0.4) + 0.06 * patch.noise(0.04) - 0.36 * pale
    bake += 0.15 * step(edge, 0.25, 0.0)
    colors = floured(patch, crust(RYE, bake), flour * (1 - pale) * step(edge, 0.02, 0.2), rng.uniform(0.35, 0.85))
    return Surface(edge, height, colors, 0.04)


def toast(patch: Patch) -> Surface:
    rng = patch.rng
    u, v = patch.u, patch.v + 0.015 * patch.noise(0.4)
    waist, crown = rng.uniform(0.72, 0.84), rng.uniform(0.84, 0.95)
    body = rounded_box(u, v - 0.12, half=(waist, 0.76), corner=0.14)
    top = rounded_box(u, v + 0.5, half=(crown, 0.4), corner=0.34)
    dip = np.float32(rng.uniform(0, 0.12)) * step(np.abs(u), 0.3, 0.0) * (v < 0)  # two domes meet in the middle
    edge = np.maximum(body, top - dip)
    rind = step(edge, rng.uniform(0.1, 0.14), 0.05)
    height = 0.14 * np.sqrt(np.clip(edge * 12, 0, 1)) + 0.008 * patch.noise(0.05)
    toasted = rng.uniform(0, 0.38) * (rng.random() < 0.5)
    bake = 0.04 + toasted * step(edge, 0.0, 0.3) * (0.9 + 0.4 * patch.noise(0.3)) + 0.05 * patch.noise(0.05)
    holes = patch.specks(edge > 0.14, int(rng.integers(90, 180)), length=0.026, width=0.016)
    height -= 0.02 * holes
    bake = bake + 0.1 * holes + (rng.uniform(0.5, 0.7) - bake) * rind
    return Surface(edge, height, crust(WHEAT, bake), 0.02)


def _spline(points: NDArray[np.float32], *, parts: int) -> NDArray[np.float32]:
    """Catmull-Rom: a smooth line through the points, `parts` steps between two of them."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    t = (np.arange(parts, dtype=np.float32) / parts)[:, None]
    a, b, c, d = (padded[i : i + len(points) - 1, None, :] for i in range(4))
    line = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([line.reshape(-1, points.shape[1]), points[-1:]]).astype(np.float32)


def _lay(
    patch: Patch,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    number: int,
    edge: Plane,
    height: Plane,
    met: Plane,
) -> None:
    """Lay one piece of a strand, (x, y, half-width) to (x, y, half-width), on what lies there; changes the planes."""
    (x0, y0, w0), (x1, y1, w1) = start, end
    reach = max(abs(x1 - x0), abs(y1 - y0)) / 2 + max(w0, w1)
    at = patch.around((x0 + x1) / 2, (y0 + y1) / 2, reach)
    u, v = patch.u[at] - x0, patch.v[at] - y0
    t = np.clip((u * (x1 - x0) + v * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
    width = w0 + (w1 - w0) * t
    inside = width - distance(u - t * (x1 - x0), v - t * (y1 - y0))
    tube = width * dome(1 - np.clip(inside, 0, None) / width)
    before = met[at]
    over = (inside > 0) & (np.abs(before - number) > 6) & (before > -99)  # another part of the strand lies there
    raised = np.where(over, tube, np.maximum(tube, height[at]))
    edge[at] = np.maximum(edge[at], inside)
    height[at] = np.where(inside > 0, raised, height[at])
    met[at] = np.where(inside > 0, number, before)


DRAWINGS: dict[str, Callable[[Patch], Surface]] = {
    "bagel": bagel,
    "baguette": baguette,
    "bun": bun,
    "ciabatta": ciabatta,
    "croissant": croissant,
    "flatbread": flatbread,
    "focaccia": focaccia,
    "pretzel": pretzel,
    "rye": rye,
    "toast": toast,
}
