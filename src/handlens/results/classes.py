"""One probability per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from handlens.drawing import with_text_below


@dataclass(frozen=True, eq=False)
class Classes:
    """One probability per class.

    Attributes:
        probabilities: (K,) float32 in [0, 1], summing to 1.
        names: K class names in index order.

    Raises:
        ValueError: shapes disagree, or the numbers are not a distribution.
    """

    on_pixels: ClassVar[bool] = False
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        p = self.probabilities
        if p.shape != (len(self.names),):
            raise ValueError(f"probabilities must have shape ({len(self.names)},), got {p.shape}")
        total, least = float(p.sum()), float(p.min())
        if not (abs(total - 1) <= 1e-2 and least >= -1e-6):  # written so that NaN is refused too
            raise ValueError(f"probabilities must be in [0, 1] and sum to 1, got sum {total}, min {least}")

    @property
    def label(self) -> str:
        return self.names[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float:
        return float(self.probabilities.max())

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest (name, probability), likeliest first; ties in index order."""
        order = [int(self.probabilities.argmax())] if k == 1 else np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.names[i], float(self.probabilities[i])) for i in order]

    @staticmethod
    def columns(top: int) -> list[str]:
        return ["class", "probability"] + [
            f"{name}{rank}" for rank in range(2, top + 1) for name in ("class", "probability")
        ]

    def rows(self, top: int) -> list[list[str]]:
        """One row, the likeliest class first."""
        return [[text for name, probability in self.top(top) for text in (name, f"{probability:.6f}")]]

    def caption(self) -> str:
        return f"{self.label} {100 * self.confidence:.0f} %"

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        return {
            "class": self.label,
            "probability": self.confidence,
            "top": [{"class": name, "probability": probability} for name, probability in self.top(top)],
        }

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with "name 97.3 %" on a band below it, so that nothing is hidden."""
        return with_text_below(image, f"{self.label}  {100 * self.confidence:.1f} %")
