"""From the arrays of an exported segmenter to a mask of the image's own size. Imports NumPy only, for apps copy it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def answer(
    outputs: Mapping[str, Any], *, model: Mapping[str, Any], height: int, width: int, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    """The classes that are there, the largest first, with their pixels and their share of the image.

    Args:
        outputs: by name, without the batch: classes, a class index per pixel of the model's input.
        model: model.json.
        height, width: of the image, pixels.
        place: where it lies in the model's input: height, width, top, left.
    """
    counts = np.bincount(mask(outputs, height=height, width=width, place=place).ravel())
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    areas = [
        {"class": model["class_names"][i], "pixels": int(counts[i]), "share": int(counts[i]) / (height * width)}
        for i in order
    ]
    return {"width": width, "height": height, "areas": areas}


def mask(outputs: Mapping[str, Any], *, height: int, width: int, place: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """(height, width) class indices, one per pixel of the image: of the nearest pixel of the model's input."""
    new_height, new_width, top, left = place
    rows, columns = top + _nearest(new_height, height), left + _nearest(new_width, width)
    return np.asarray(outputs["classes"][rows[:, None], columns[None, :]], dtype=np.uint8)


def _nearest(size: int, count: int) -> NDArray[np.int64]:
    """Which of `size` pixels each of `count` shows. Steps are added up, as Pillow does: ties fall as they do there."""
    steps = np.full(count, size / count)
    steps[0] /= 2
    return np.cumsum(steps).astype(np.int64)


def caption(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{row['class']} {100 * row['share']:.0f} %" for row in found["areas"][:3])
