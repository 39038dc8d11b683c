"""What an evaluation says of prediction sets and of images that are none of the classes, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handlens.figures import percent


def sentences(result: Mapping[str, Any]) -> list[str]:
    """
    Args:
        result: of `handlens.evaluate`.
    """
    said = []
    if sets := result.get("sets"):
        low, high = sets["coverage_interval"]
        said.append(
            f"Sets of {percent(sets['asked'])}: {percent(sets['coverage'])} hold the truth (95 % interval "
            f"{percent(low)} to {percent(high)}); {sets['mean_size']:.2f} classes on average."
        )
    if unknown := result.get("unknown"):
        low, high = unknown["rejected_interval"]
        rest = unknown["accuracy_of_the_rest"]
        said.append(
            f"None of these: {percent(unknown['rejected'])} of the images (95 % interval {percent(low)} to "
            f"{percent(high)}) where {percent(unknown['asked'])} was asked; accuracy of the rest {percent(rest)}. "
            f"Score: {unknown['score']}."
        )
    return said
