"""An image of breads on a table, with a mask and a box for each.

Light falls from one side, breads cast shadows and lie over one another, the camera blurs and adds noise. Every random
number of an image comes from (seed, index); see textures.py for why the pixels are the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.samples.bakery.breads import DRAWINGS
from handlens.samples.bakery.crust import FLOUR, Surface
from handlens.samples.bakery.tables import table, turn
from handlens.samples.bakery.textures import Colors, Patch, Plane, linear, mix, step

BREADS: tuple[str, ...] = tuple(sorted(DRAWINGS))
# Half the length of a bread that fills the image, as a share of the image: long ones may be longer.
REACH = {"baguette": 0.5, "ciabatta": 0.42, "croissant": 0.4, "focaccia": 0.38} | dict.fromkeys(
    ("bagel", "bun", "flatbread", "pretzel", "rye", "toast"), 0.37
)
CRUMB = linear(206, 150, 88)
NEIGHBOUR_SHARE = 0.35  # of the images of one bread show a part of a second one at the edge


@dataclass(frozen=True, eq=False)
class Bread:
    """
    Attributes:
        kind: one of BREADS.
        mask: (H, W) bool, the pixels that can be seen.
        box: left, top, right, bottom of the mask; pixels, the right and bottom edges outside the last pixel.
    """

    kind: str
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Scene:
    """
    Attributes:
        image: (H, W, 3) uint8 RGB.
        breads: every bread of which a pixel can be seen, the asked-for ones first.
    """

    image: NDArray[np.uint8]
    breads: tuple[Bread, ...]


@dataclass(frozen=True)
class Light:
    """Where it comes from (unit vector; z towards the camera) and how strong the shadows are, 0 to 1."""

    x: float
    y: float
    z: float
    shadow: float


@dataclass(frozen=True)
class Place:
    """Center and half-length in pixels, and how much the view from the side shortens what is far away."""

    x: float
    y: float
    half: float
    tilt: float


def bakery_scene(*, kind: str | None, index: int, seed: int, size: int = 224, count: int = 1) -> Scene:
    """Draw an image of generated breads.

    Args:
        kind: of every bread; None draws a kind for each.
        index: number of the image; another one is another image.
        seed: of the data set.
        size: height and width, pixels, at least 32.
        count: breads. One fills the image, and part of another kind may show at the edge; more lie over one another.

    Raises:
        InputError: an unknown kind, a negative index or seed, a size or count that is too small.
    """
    if kind is not None and kind not in BREADS:
        raise InputError(f"kind must be one of {', '.join(BREADS)}, got {kind!r}.")
    if min(index, seed) < 0:
        raise InputError(f"index and seed must not be negative, got {index} and {seed}.")
    if size < 32 or count < 1:
        raise InputError(f"a scene needs at least 32 pixels and one bread, got size {size} and count {count}.")
    rng = np.random.default_rng([seed, index])
    light = _light(rng)
    canvas = np.ascontiguousarray(table(rng, size), dtype=np.float32)
    _strew_crumbs(rng, canvas)
    tilt = float(rng.uniform(0.8, 1))

    kinds = [kind or BREADS[int(rng.integers(len(BREADS)))] for _ in range(count)]
    places = _places(rng, size, count, tilt, kinds)
    order = list(range(count))
    if count == 1 and rng.random() < NEIGHBOUR_SHARE:  # painted first: it never covers the one that was asked for
        others = [name for name in BREADS if name != kinds[0]]
        kinds.append(others[int(rng.integers(len(others)))])
        places.append(_at_the_edge(rng, size, places[0]))
        order.insert(0, 1)
    owner = np.full((size, size), -1, dtype=np.int16)
    for number in order:
        _paint(rng, canvas, owner, number, kinds[number], places[number], light)
    breads = []
    for number, name in enumerate(kinds):
        mask = owner == number
        if mask.any():
            breads.append(Bread(name, mask, _bounds(mask)))
    return Scene(_photograph(rng, canvas), tuple(breads))


def _light(rng: np.random.Generator) -> Light:
    x, y = turn(rng)
    slant = float(rng.uniform(0.35, 0.75))
    return Light(float(x) * slant, float(y) * slant, float(np.sqrt(1 - slant * slant)), float(rng.uniform(0.35, 0.8)))


def _places(rng: np.random.Generator, size: int, count: int, tilt: float, kinds: list[str]) -> list[Place]:
    """Centers that keep apart as far as the best of twelve throws does: breads overlap, and none hides another."""
    share = 1.0 if count == 1 else 1.5 / float(np.sqrt(count + 1))
    centers: list[tuple[float, float]] = []
    for _ in range(count):
        border = 0.4 if count == 1 else min(0.4, 0.32 * share)
        throws = size * rng.uniform(border, 1 - border, size=(12, 2))
        gaps = [min(((x - a) ** 2 + (y - b) ** 2 for a, b in centers), default=0.0) for x, y in throws]
        x, y = throws[int(np.argmax(gaps))]
        centers.append((float(x), float(y)))
    halves = [size * share * REACH[kind] * float(rng.uniform(0.72, 1.12)) for kind in kinds]
    return [Place(x, y, half, tilt) for (x, y), half in zip(centers, halves, strict=True)]


def _at_the_edge(rng: np.random.Generator, size: int, main: Place) -> Place:
    """A place from which little more than a rim reaches into the image."""
    x, y = turn(rng)
    half = main.half * float(rng.uniform(0.8, 1.1))
    away = size / 2 / max(abs(float(x)), abs(float(y))) + half * float(rng.uniform(0.35, 0.7))
    return Place(size / 2 + away * float(x), size / 2 + away * float(y), half, main.tilt)


def _paint(
    rng: np.random.Generator,
    canvas: Colors,
    owner: NDArray[np.int16],
    number: int,
    kind: str,
    place: Place,
    light: Light,
) -> None:
    """Paint one bread and its shadow on the canvas, and its number on the pixels that it owns."""
    size = len(canvas)
    cosine, sine = turn(rng)
    mirror = np.float32(rng.choice([-1, 1]))
    reach = 1.2 * place.half
    left, right = (int(np.clip(place.x + way * reach, 0, size)) for way in (-1, 1))
    top, bottom = (int(np.clip(place.y + way * reach, 0, size)) for way in (-1, 1))
    if right - left < 2 or bottom - top < 2:
        return
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - place.x))[None, :] / np.float32(place.half)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - place.y))[:, None] / np.float32(
        place.half * place.tilt
    )
    u, v = cosine * x + sine * y, mirror * (cosine * y - sine * x)
    surface = DRAWINGS[kind](Patch(u, v, place.half, rng))

    cover = np.clip(surface.edge * np.float32(place.half) + np.float32(0.5), 0, 1)
    window = (slice(top, bottom), slice(left, right))
    _cast_shadow(canvas, cover, surface.height, window, place, light)
    canvas[window] = mix(canvas[window], _lit(surface, place, light), cover)
    owner[window][cover > 0.5] = number


def _cast_shadow(
    canvas: Colors, cover: Plane, height: Plane, window: tuple[slice, slice], place: Place, light: Light
) -> None:
    """Darken the table twice: softly where light is kept off, and narrowly where bread and table meet."""
    size = len(canvas)
    tallest = float(height.max()) * place.half
    solid = np.zeros((size, size), dtype=np.uint8)
    solid[window] = (cover * 255).astype(np.uint8)
    shift = [round(-0.8 * tallest * part / light.z) for part in (light.y, light.x)]
    moved = np.zeros_like(solid)
    rows = [slice(max(0, s), size + min(0, s)) for s in shift]
    sources = [slice(max(0, -s), size + min(0, -s)) for s in shift]
    moved[rows[0], rows[1]] = solid[sources[0], sources[1]]
    halved = _blurred(np.maximum(moved, solid)[::2, ::2], 0.125 * tallest + 0.75)  # so soft that half the size will do
    soft = cv2.resize(halved, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)
    tight = _blurred(solid, 0.02 * place.half + 1)
    dark = 1 - np.float32(light.shadow / 255) * soft.astype(np.float32)
    dark *= 1 - np.float32(0.4 / 255) * tight.astype(np.float32)
    canvas *= dark[:, :, None]


def _lit(surface: Surface, place: Place, light: Light) -> Colors:
    """Lambert's cosine law, a highlight after Blinn (exponent 32), and less light in the groove along the outline."""
    hills = surface.height * np.float32(place.half)
    slope_x, slope_y = np.zeros_like(hills), np.zeros_like(hills)
    slope_x[:, 1:-1] = np.clip((hills[:, 2:] - hills[:, :-2]) / 2, -1.6, 1.6)
    slope_y[1:-1] = np.clip((hills[2:] - hills[:-2]) / 2, -1.6, 1.6)
    steepness = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    facing = np.clip((np.float32(light.z) - light.x * slope_x - light.y * slope_y) / steepness, 0, 1)
    half_z = np.sqrt((1 + light.z) / 2)  # halfway between the light and the camera above
    shine = np.clip((half_z - (light.x * slope_x + light.y * slope_y) / (2 * half_z)) / steepness, 0, 1)
    for _ in range(5):
        shine *= shine
    ambient = 1 - light.shadow * 0.9
    brightness = (ambient + (1 - ambient) * facing / np.float32(light.z)) * (0.6 + 0.4 * step(surface.edge, 0.0, 0.07))
    lit = surface.colors * brightness[:, :, None]
    lit += (np.float32(0.4 * surface.gloss) * shine * facing)[:, :, None]
    return lit


def _strew_crumbs(rng: np.random.Generator, canvas: Colors) -> None:
    """Crumbs and flour on the table, in most images."""
    plane = np.zeros(canvas.shape[:2], dtype=np.float32)  # crumbs lie anywhere: nobody asks for coordinates
    crumbs = Patch(plane, plane, len(canvas) / 224, rng)
    everywhere = np.ones(plane.shape, dtype=np.bool_)
    cover = crumbs.specks(everywhere, int(rng.integers(0, 26)), length=rng.uniform(1, 3), width=rng.uniform(0.8, 2))
    covered = np.nonzero(cover)
    canvas[covered] += (CRUMB - canvas[covered]) * cover[covered][:, None]
    if rng.random() < 0.25:
        dust = step(crumbs.noise(50) + 0.5 * crumbs.noise(2), 0.35, 1.3)
        canvas[:] = mix(canvas, FLOUR, dust)


def _photograph(rng: np.random.Generator, canvas: Colors) -> NDArray[np.uint8]:
    """Exposure, color temperature and vignette; then gamma, blur and sensor noise."""
    size = len(canvas)
    warmth = rng.uniform(-0.16, 0.16)
    gain = rng.uniform(0.7, 1.25) * np.array([1 + warmth, 1 + rng.uniform(-0.04, 0.04), 1 - warmth])
    along = np.linspace(-1, 1, size, dtype=np.float32)
    fall = rng.uniform(0, 0.25, size=3).astype(np.float32)
    shade = 1 - fall[0] * (along * along)[:, None] - fall[0] * (along * along)[None, :]
    shade += (fall[1] - 0.125) * along[:, None] + (fall[2] - 0.125) * along[None, :]
    lit = canvas * shade[:, :, None]
    lit *= (255 * 255 * gain).astype(np.float32)
    np.sqrt(np.clip(lit, 0, 255 * 255, out=lit), out=lit)  # gamma 2
    pixels = _blurred(lit.astype(np.uint8), float(rng.uniform(-0.3, 1.3)) * size / 224)
    strength = np.float32(rng.uniform(1, 6))
    grain = (rng.random(pixels.shape, dtype=np.float32) * 2 - 1) * strength
    bell = rng.random((3, size, size), dtype=np.float32).sum(axis=0) * 2 - 3  # nearly normal: a true one needs log
    grain += (bell * strength)[:, :, None]
    grain += pixels
    return np.clip(grain, 0, 255, out=grain).astype(np.uint8)


def _blurred(pixels: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Gaussian blur of uint8, which OpenCV does in whole numbers."""
    if sigma < 0.3:
        return pixels
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), dtype=np.uint8)


def _bounds(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
