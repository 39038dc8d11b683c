"""From the arrays of an exported classifier to classes in words. Imports NumPy only, for apps copy it."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def answer(
    outputs: Mapping[str, Any], *, model: Mapping[str, Any], height: int, width: int, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    """The likeliest class, and the likeliest five with their probabilities.

    Args:
        outputs: by name, without the batch: probabilities (K,).
        model: model.json.
        height, width: of the image, pixels. place: where it lies in the model's input. A class needs neither.
    """
    probabilities = outputs["probabilities"]
    order = np.argsort(-probabilities, kind="stable")[:5]
    top = [{"class": model["class_names"][i], "probability": float(probabilities[i])} for i in order]
    return top[0] | {"top": top}


def caption(found: Mapping[str, Any]) -> str:
    return f"{found['class']} {100 * found['probability']:.1f} %"
