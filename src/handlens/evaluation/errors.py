"""Which images to look at: the surest mistakes, and the answers that were nearly wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handlens.evaluation.metrics import checked_labels


def ranked(
    probabilities: NDArray[np.float32], labels: ArrayLike, ids: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Every image, right and wrong ones apart, those most worth a look first.

    Args:
        probabilities: (N, K) float, rows that sum to 1.
        labels: (N,) int, the true class of each row.
        ids: N names of images.

    Returns:
        wrong: most confident first. A sure mistake is often a wrong label.
        right: least confident first. Read from the end for the surest.
        Each image is {row, id, label, predicted, confidence, label_probability}: its row in
        `probabilities`, the true and the answered class index, and the probabilities of the answer and
        of the truth.
        Equal probabilities stay in the order of the rows.

    Raises:
        ValueError: as `metrics.classification_metrics`, or the number of ids is not N.
    """
    labels = checked_labels(probabilities, labels)
    if len(ids) != len(labels):
        raise ValueError(f"ids must have {len(labels)} entries, one per row of probabilities, got {len(ids)}")
    predicted = probabilities.argmax(axis=1)
    images = [
        {
            "row": row,
            "id": ids[row],
            "label": int(labels[row]),
            "predicted": int(predicted[row]),
            "confidence": float(probabilities[row, predicted[row]]),
            "label_probability": float(probabilities[row, labels[row]]),
        }
        for row in range(len(labels))
    ]
    wrong = [image for image in images if image["label"] != image["predicted"]]
    right = [image for image in images if image["label"] == image["predicted"]]
    return {
        "wrong": sorted(wrong, key=lambda image: -image["confidence"]),
        "right": sorted(right, key=lambda image: image["confidence"]),
    }
