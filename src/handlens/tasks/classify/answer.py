"""From the arrays of an exported classifier to classes in words. Imports NumPy only, for apps copy it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Of GEN (Liu, Lochman and Zach 2023, equation 5): how little an image looks like any of the classes.
GAMMA, LIKELIEST = 0.1, 100


def answer(
    outputs: Mapping[str, Any], *, model: Mapping[str, Any], height: int, width: int, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    """The likeliest class, and the likeliest five with their probabilities.

    Where the model knows which images are usual, also p: of images of its classes, at most a share a has a p of a or
    less, so that an image with a p of at most 0.05 may well show none of them.

    Args:
        outputs: by name, without the batch: probabilities (K,).
        model: model.json.
        height, width: of the image, pixels. place: where it lies in the model's input. A class needs neither.
    """
    probabilities = outputs["probabilities"]
    order = np.argsort(-probabilities, kind="stable")[:5]
    top = [{"class": model["class_names"][i], "probability": float(probabilities[i])} for i in order]
    found = top[0] | {"top": top}
    if known := model.get("known_scores"):
        exact = probabilities.astype(np.float64)  # 1 - p in float32 is 0 where p is nearly 1
        likeliest = np.sort(exact / exact.sum())[::-1][:LIKELIEST]
        score = ((likeliest * (1 - likeliest)).clip(0) ** GAMMA).sum()
        quantiles = known["quantiles"]
        share = (len(quantiles) - int(np.searchsorted(quantiles, score))) / len(quantiles)
        found["p"] = max(share, 1 / len(quantiles), 1 / (known["count"] + 1))
    return found


def caption(found: Mapping[str, Any]) -> str:
    return f"{found['class']} {100 * found['probability']:.1f} %"
