"""What the bread lies on: wood, cloth, a steel tray, marble, paper. In linear light, as everything until the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from handlens.samples.bakery.textures import Colors, Plane, linear, mix, noise, palette, ridge, step

WOODS = (
    palette((0.0, (92, 58, 34)), (0.5, (150, 102, 62)), (1.0, (196, 152, 104))),
    palette((0.0, (150, 112, 72)), (0.5, (200, 162, 114)), (1.0, (232, 204, 162))),
    palette((0.0, (40, 28, 22)), (0.5, (78, 54, 40)), (1.0, (118, 88, 66))),
    palette((0.0, (112, 108, 104)), (0.5, (158, 154, 148)), (1.0, (200, 198, 192))),
)
CLOTHS = tuple(
    (linear(*base), linear(*stripe))
    for base, stripe in (
        ((228, 222, 208), (150, 44, 40)),
        ((222, 222, 220), (52, 78, 124)),
        ((112, 132, 118), (206, 208, 196)),
        ((70, 76, 92), (176, 172, 160)),
        ((206, 186, 150), (118, 90, 62)),
        ((196, 120, 96), (240, 224, 200)),
    )
)
MARBLES = (linear(236, 234, 230), linear(206, 206, 208), linear(62, 64, 68), linear(222, 206, 186))
PAPERS = (linear(242, 240, 234), linear(206, 178, 138), linear(226, 212, 184), linear(176, 190, 196))


def table(rng: np.random.Generator, size: int) -> Colors:
    """(size, size, 3) of one of the five, drawn by lot."""
    draw = TABLES[int(rng.integers(len(TABLES)))]
    return draw(rng, size, size / 224)


def wood(rng: np.random.Generator, size: int, scale: float) -> Colors:
    plank = rng.uniform(36, 90) * scale
    across = np.arange(size, dtype=np.float32) / np.float32(plank) + rng.random(dtype=np.float32)
    board = np.floor(across).astype(np.intp)
    tones = rng.uniform(-0.13, 0.13, size=int(board[-1]) + 1).astype(np.float32)
    grain = 0.24 * noise(rng, (size, size), (3 * scale, 90 * scale))
    grain += 0.12 * noise(rng, (size, size), (1.5 * scale, 30 * scale)) + 0.12 * _hills(rng, size, 60 * scale)
    tone = 0.5 + tones[board][:, None] + grain
    gap = ridge(across - np.rint(across), 1.6 * scale / plank)[:, None]
    lut = WOODS[int(rng.integers(len(WOODS)))]
    colors = lut[(np.clip(tone, 0, 1) * 255).astype(np.uint8)] * (1 - 0.75 * gap)[:, :, None]
    return _turned(rng, colors)


def cloth(rng: np.random.Generator, size: int, scale: float) -> Colors:
    base, stripe = CLOTHS[int(rng.integers(len(CLOTHS)))]
    x, y = _turned_grid(rng, size)
    period, share = rng.uniform(24, 64) * scale, rng.uniform(0.12, 0.5)
    pattern = rng.choice(["plain", "stripes", "checks"])
    bars, cross = _stripes(x, period, share), _stripes(y, period, share)
    cover = {"plain": 0 * bars, "stripes": bars, "checks": (bars + cross) / 2}[pattern]
    thread = np.float32(max(2.0, 2.6 * scale))
    weave = np.abs(x / thread - np.rint(x / thread)) + np.abs(y / thread - np.rint(y / thread))
    folds = 0.16 * _hills(rng, size, 70 * scale) + 0.1 * ridge(_hills(rng, size, 110 * scale), 0.15)
    light = 0.86 + 0.22 * weave + folds + 0.06 * _hills(rng, size, 1.5)
    return mix(np.broadcast_to(base, (size, size, 3)), stripe, cover) * light[:, :, None]


def steel(rng: np.random.Generator, size: int, scale: float) -> Colors:
    brushed = 0.06 * noise(rng, (size, size), (1.5, 60 * scale)) + 0.05 * noise(
        rng, (size, size), (3 * scale, 200 * scale)
    )
    tone = rng.uniform(0.2, 0.42) + brushed + 0.14 * _hills(rng, size, 120 * scale)
    if rng.random() < 0.45:  # a perforated tray
        x, y = _turned_grid(rng, size)
        pitch = np.float32(rng.uniform(14, 24) * scale)
        down = y / pitch
        across = x / pitch + 0.5 * (np.rint(down) % 2)
        hole = step(np.sqrt(np.square(across - np.rint(across)) + np.square(down - np.rint(down))), 0.3, 0.2)
        tone = tone * (1 - 0.8 * hole)
    tint = linear(*(250 + rng.uniform(-8, 5, size=3)))
    return _turned(rng, np.clip(tone, 0.02, 1)[:, :, None] * tint)


def marble(rng: np.random.Generator, size: int, scale: float) -> Colors:
    base = MARBLES[int(rng.integers(len(MARBLES)))]
    vein = linear(120, 116, 112) if base.mean() > 0.2 else linear(200, 196, 188)
    clouds = _hills(rng, size, 60 * scale)
    lines = ridge(_hills(rng, size, 80 * scale) + 0.3 * _hills(rng, size, 24 * scale) + 0.4 * clouds, 0.07)
    fine = ridge(_hills(rng, size, 44 * scale) + 0.3 * _hills(rng, size, 14 * scale), 0.05)
    cover = np.clip(0.65 * lines * (0.5 + clouds) + 0.35 * fine + 0.16 * clouds, 0, 1)
    return mix(np.broadcast_to(base, (size, size, 3)), vein, cover)


def paper(rng: np.random.Generator, size: int, scale: float) -> Colors:
    base = PAPERS[int(rng.integers(len(PAPERS)))]
    creases = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(0, 4))):  # a crease is a straight edge between two slopes
        x, _y = _turned_grid(rng, size)
        away = (x - np.float32(rng.uniform(-0.4, 0.4) * size)) / np.float32(size)
        creases += np.float32(rng.uniform(-0.14, 0.14)) * np.sign(away) * np.clip(1 - np.abs(away) * 5, 0, 1)
    light = 0.92 + creases + 0.05 * _hills(rng, size, 70 * scale) + 0.04 * _hills(rng, size, 2) * rng.random()
    return base * light[:, :, None]


TABLES: tuple[Callable[[np.random.Generator, int, float], Colors], ...] = (wood, cloth, steel, marble, paper)


def _hills(rng: np.random.Generator, size: int, cell: float) -> Plane:
    return noise(rng, (size, size), (max(1.5, cell), max(1.5, cell)))


def _turned(rng: np.random.Generator, colors: Colors) -> Colors:
    """Rows as columns, half of the time."""
    return colors.swapaxes(0, 1) if rng.random() < 0.5 else colors


def _turned_grid(rng: np.random.Generator, size: int) -> tuple[Plane, Plane]:
    """Pixel coordinates around the middle, turned by any angle."""
    y, x = np.mgrid[:size, :size].astype(np.float32) - np.float32(size / 2)
    cosine, sine = turn(rng)
    return cosine * x + sine * y, cosine * y - sine * x


def turn(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    """Cosine and sine of a random angle: a random point of the disc, brought to length 1."""
    while True:
        x, y = rng.uniform(-1, 1, size=2)
        length = float(np.sqrt(x * x + y * y))
        if 0.1 < length < 1:
            return np.float32(x / length), np.float32(y / length)


def _stripes(x: Plane, period: float, share: float) -> Plane:
    """1 on `share` of every period."""
    phase = x / np.float32(period)
    return step(np.abs(phase - np.rint(phase)), share / 2 + 0.02, share / 2 - 0.02)
