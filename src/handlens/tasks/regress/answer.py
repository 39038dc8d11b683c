"""From the arrays of an exported regression model to numbers by name. Imports NumPy only, for apps copy it."""

from collections.abc import Mapping
from typing import Any


def answer(
    outputs: Mapping[str, Any], *, model: Mapping[str, Any], height: int, width: int, place: tuple[int, int, int, int]
) -> dict[str, Any]:
    """The numbers by name, each in the unit of the labels that were learned from.

    Args:
        outputs: by name, without the batch: values (V,).
        model: model.json.
        height, width: of the image, pixels. place: where it lies in the model's input. A number needs neither.
    """
    return {"values": dict(zip(model["class_names"], map(float, outputs["values"]), strict=True))}


def caption(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in found["values"].items())
