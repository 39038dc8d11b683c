"""From the arrays of an exported detector to objects in pixels of the image. Imports NumPy only, for apps copy it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME_OBJECT = 0.6  # IoU above which the less likely of two boxes of a class is suppressed


def answer(
    outputs: Mapping[str, Any], *, model: Mapping[str, Any], height: int, width: int, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    """Objects, likeliest first, of at least the model's threshold; corners in pixels of the image.

    Args:
        outputs: by name, without the batch: boxes (M, 4), scores (M,), labels (M,); score 0 is padding.
        model: model.json.
        height, width: of the image, pixels.
        place: where it lies in the model's input: height, width, top, left.
    """
    boxes, scores, labels = outputs["boxes"], outputs["scores"], outputs["labels"]
    if not model["suppress"]:
        kept = suppress(boxes, scores, labels)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    new_height, new_width, top, left = place
    size = [model["preprocess"]["width"], model["preprocess"]["height"]] * 2
    corners = (boxes * size - [left, top, left, top]) / np.tile([new_width / width, new_height / height], 2)
    corners = np.clip(corners, 0, [width, height, width, height]).astype(np.float32)
    least = model["thresholds"][0]
    found = [
        {
            "class": model["class_names"][int(labels[i])],
            "score": float(scores[i]),
            "box": [round(float(side), 2) for side in corners[i]],  # left, top, right, bottom
        }
        for i in np.argsort(-scores, kind="stable")
        if scores[i] > 0 and scores[i] >= least and (corners[i, :2] < corners[i, 2:]).all()
    ]
    return {"width": width, "height": height, "boxes": found}


def suppress(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any]) -> list[int]:
    """Non-maximum suppression per class: the rows that are kept, likeliest first."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        others = [k for k in kept if labels[k] == labels[i] and _iou(boxes[k], boxes[i]) > SAME_OBJECT]
        if scores[i] > 0 and not others:
            kept.append(int(i))
    return kept


def _iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Of two boxes (4,) left, top, right, bottom."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    both = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return common / (both - common) if common else 0.0


def caption(found: Mapping[str, Any]) -> str:
    names = [row["class"] for row in found["boxes"]]
    return ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(names)) or "nothing found"
