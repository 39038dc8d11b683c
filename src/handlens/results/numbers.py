"""Numbers about an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from handlens.drawing import with_text_below


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers about an image, each in the unit of the labels that were learned from.

    Attributes:
        values: (V,) float32.
        names: of the numbers, in order.

    Raises:
        ValueError: shapes disagree, or a value is not finite.
    """

    on_pixels: ClassVar[bool] = False
    values: NDArray[np.float32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.names),):
            raise ValueError(f"values must have shape ({len(self.names)},), got {self.values.shape}")
        if not np.isfinite(self.values).all():
            raise ValueError(f"values must be finite, got {self.values.tolist()}")

    def __float__(self) -> float:
        """The number, where there is one.

        Raises:
            ValueError: there are several.
        """
        if len(self.names) != 1:
            raise ValueError(f"there are {len(self.names)} values: {', '.join(self.names)}")
        return float(self.values[0])

    @staticmethod
    def columns(top: int) -> list[str]:
        return ["name", "value"]

    def rows(self, top: int) -> list[list[str]]:
        """One row per number."""
        return [[name, f"{value:.6g}"] for name, value in zip(self.names, self.values.tolist(), strict=True)]

    def caption(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(self.names, self.values.tolist(), strict=True))

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        return {"values": dict(zip(self.names, self.values.tolist(), strict=True))}

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with the numbers on a band below it, so that nothing is hidden."""
        return with_text_below(image, self.caption())
