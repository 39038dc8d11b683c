"""Outlines as COCO stores them -> pixels: polygons, run lengths as a list, run lengths as text.

Source: pycocotools 2.0.11, common/maskApi.c: rleFrPoly (a polygon's edges are walked on a grid five times as fine),
rleDecode and rleFrString. Equal to it bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FINE = 5  # steps per pixel on the grid of polygons
Outline = Sequence[Sequence[float]] | Mapping[str, Any]


def render(outline: Outline, *, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of one object.

    Args:
        outline: polygons [[x1, y1, x2, y2, ...], ...] in pixels at edges, joined; or {"size": [height, width],
            "counts": [...] or text}: lengths of runs outside and inside in turn, down the columns.
        size: (height, width) of the image, in pixels.

    Returns:
        (H, W) bool; nothing is set where there is no polygon.

    Raises:
        ValueError: a polygon of fewer than three points, run lengths of another size or that do not fill it.
    """
    height, width = size
    if isinstance(outline, Mapping):
        if list(outline["size"]) != [height, width]:
            raise ValueError(f"the runs are for {list(outline['size'])} pixels (height, width), not {[height, width]}")
        counts = outline["counts"]
        return _from_counts(_from_text(counts) if isinstance(counts, str | bytes) else list(counts), size)
    pixels = np.zeros(size, dtype=bool)
    for polygon in outline:
        _check(polygon)
        pixels |= _polygon(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), height, width)
    return pixels


def frame(outline: Outline) -> list[float]:
    """The box around an object: x, y, width, height in pixels at edges; no side where nothing is inside.

    Raises:
        ValueError: as `render`.
    """
    if isinstance(outline, Mapping):
        height, width = outline["size"]
        rows, columns = np.nonzero(render(outline, size=(height, width)))
        if not len(rows):
            return [0.0, 0.0, 0.0, 0.0]
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    else:
        for polygon in outline:
            _check(polygon)
        xs = [float(x) for polygon in outline for x in polygon[::2]]
        ys = [float(y) for polygon in outline for y in polygon[1::2]]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _check(polygon: Sequence[float]) -> None:
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon has {len(polygon)} numbers; at least three points (six numbers) are needed")


def _from_counts(counts: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = size
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise ValueError(f"the runs cover {sum(counts)} pixels of {height * width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _from_text(text: str | bytes) -> list[int]:
    """Six bits a character: five of the number, lowest first, and one that says it goes on. From the third number
    on, the difference to the one two before."""
    counts: list[int] = []
    number = shift = 0
    for byte in text.encode("ascii") if isinstance(text, str) else text:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{chr(byte)!r} is not valid in run lengths")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("the run lengths end within a number")
    return counts


def _polygon(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """(points, 2) x, y -> (H, W): a pixel is inside where an odd number of edges cross its column above it."""
    grid = (FINE * points + 0.5).astype(np.int64)  # truncated, as C does
    xs, ys = [], []
    for (x0, y0), (x1, y1) in zip(grid, np.roll(grid, -1, axis=0), strict=True):
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        if dx == dy == 0:
            continue
        steps = np.arange(max(dx, dy) + 1)
        turned = x0 > x1 if dx >= dy else y0 > y1  # each edge is walked the same way from either side
        (xa, ya), (xb, yb) = ((x1, y1), (x0, y0)) if turned else ((x0, y0), (x1, y1))
        steps = steps[::-1] if turned else steps
        if dx >= dy:
            xs.append(steps + xa)
            ys.append((ya + (yb - ya) / dx * steps + 0.5).astype(np.int64))
        else:
            ys.append(steps + ya)
            xs.append((xa + (xb - xa) / dy * steps + 0.5).astype(np.int64))
    if not xs:
        return np.zeros((height, width), dtype=bool)
    x, y = np.concatenate(xs), np.concatenate(ys)
    moved = x[1:] != x[:-1]
    column = (np.minimum(x[1:], x[:-1])[moved] + 0.5) / FINE - 0.5
    row = np.ceil(((np.minimum(y[1:], y[:-1])[moved] + 0.5) / FINE - 0.5).clip(0, height))
    kept = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    crossings = (column[kept] * height + row[kept]).astype(np.int64)
    odd = np.bincount(crossings, minlength=height * width + 1)[: height * width].cumsum() % 2 == 1
    return odd.reshape(width, height).T
