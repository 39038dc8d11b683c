"""From the arrays of an exported multi-label classifier to labels. Imports NumPy only, for apps copy it."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def answer(
    outputs: Mapping[str, Any], *, model: Mapping[str, Any], height: int, width: int, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    """The labels, each of which reaches the threshold of its class, and the likeliest five whether they do or not.

    Args:
        outputs: by name, without the batch: probabilities (K,), each class on its own.
        model: model.json.
        height, width: of the image, pixels. place: where it lies in the model's input. A label needs neither.
    """
    probabilities = outputs["probabilities"]
    order = np.argsort(-probabilities, kind="stable")
    rows = [{"class": model["class_names"][i], "probability": float(probabilities[i])} for i in order]
    labels = [row for row, i in zip(rows, order, strict=True) if probabilities[i] >= model["thresholds"][i]]
    return {"labels": labels, "top": rows[:5]}


def caption(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{row['class']} {100 * row['probability']:.0f} %" for row in found["labels"]) or "no label"
