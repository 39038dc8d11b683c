"""Outlines as COCO stores them -> pixels: polygons, run lengths as a list, run lengths as text.

The pixels are the standard evaluator's own (faster-coco-eval, whose masks are pycocotools'). Its C++ does not say what
is wrong with a damaged outline, and takes memory by what it claims: so outlines are checked before it sees them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import MAX_PIXELS

FARTHEST = 1e5  # pixels from the corner of an image, of a point: an edge is walked step by step; our choice
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
        ValueError: a polygon of fewer than three points or with one that is far away, run lengths of another size or
            that do not fill it.
    """
    from faster_coco_eval import mask

    height, width = size
    if isinstance(outline, Mapping):
        if list(outline["size"]) != [height, width]:
            raise ValueError(f"the runs are for {list(outline['size'])} pixels (height, width), not {[height, width]}")
        return _from_runs(outline["counts"], size)
    polygons = [_checked(polygon).tolist() for polygon in outline]
    if not polygons:
        return np.zeros(size, dtype=bool)
    return np.asarray(mask.decode(mask.merge(mask.frPyObjects(polygons, height, width))), dtype=bool)


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
        points = np.concatenate([_checked(polygon).reshape(-1, 2) for polygon in outline])
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _checked(polygon: Sequence[float]) -> NDArray[np.float64]:
    """(2 x points,) x and y in turn."""
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon has {len(polygon)} numbers; at least three points (six numbers) are needed")
    try:
        numbers = np.asarray(polygon, dtype=np.float64)
    except OverflowError:
        raise ValueError("a polygon has a whole number of more than 300 digits") from None
    if numbers.ndim != 1:
        raise ValueError("a polygon must be one list of alternating x and y")
    for number in numbers[~(np.abs(numbers) <= FARTHEST)][:1]:  # also what is not a number
        raise ValueError(f"a polygon has a point at {number:g}, and {FARTHEST:.0f} pixels are the farthest")
    return numbers


def _from_runs(counts: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    from faster_coco_eval import mask

    height, width = size
    if not all(isinstance(side, int) and side > 0 for side in size) or height * width > MAX_PIXELS:
        raise ValueError(f"the runs are for {[height, width]} pixels (height, width), which is not a valid image size")
    if isinstance(counts, str):
        if strange := re.search("[^0-o]", counts):
            raise ValueError(f"{strange[0]!r} is not valid in run lengths")
        runs = {"size": [height, width], "counts": counts}
    else:
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError("run lengths are whole numbers, and none is below 0")
        if sum(counts) != height * width:
            raise ValueError(f"the runs cover {sum(counts)} pixels of {height * width}")
        runs = mask.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)
    try:
        return np.asarray(mask.decode(runs), dtype=bool)
    except (RuntimeError, ValueError) as error:  # of text, whose runs only the decoder counts
        raise ValueError(f"the run lengths are wrong: {str(error).rstrip('.')}") from None
