"""The labels of an image that may have several, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from handlens.drawing import with_text_below

BETWEEN = "|"  # labels of one cell in a table, as the reader of tables takes them


@dataclass(frozen=True, eq=False)
class Tags:
    """A probability per class, each on its own, and the classes that reach their threshold.

    Attributes:
        probabilities: (K,) float32 in [0, 1].
        names: K class names in index order.
        thresholds: K values; a class is a label of the image from there on.

    Raises:
        ValueError: shapes disagree, or a number is no probability.
    """

    on_pixels: ClassVar[bool] = False
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        p = self.probabilities
        if p.shape != (len(self.names),) or len(self.thresholds) != len(self.names):
            raise ValueError(
                f"probabilities and thresholds must be {len(self.names)}, got {p.shape} and {len(self.thresholds)}"
            )
        if not bool(((p >= 0) & (p <= 1)).all()):  # written so that NaN is refused too
            raise ValueError(f"probabilities must be in [0, 1], got {p.tolist()}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the image has, likeliest first."""
        return tuple(name for name, _ in self.found())

    def found(self) -> list[tuple[str, float]]:
        """(name, probability) of each label, likeliest first."""
        above = self.probabilities >= np.asarray(self.thresholds)
        return [(self.names[i], float(self.probabilities[i])) for i in self._order() if above[i]]

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest (name, probability), whether they reach their threshold or not; ties in index order."""
        return [(self.names[i], float(self.probabilities[i])) for i in self._order()[:k]]

    @staticmethod
    def columns(top: int) -> list[str]:
        likeliest = [
            f"{name}{rank if rank > 1 else ''}" for rank in range(1, top + 1) for name in ("class", "probability")
        ]
        return ["labels", *likeliest]

    def rows(self, top: int) -> list[list[str]]:
        """One row: the labels in one cell, then the likeliest classes."""
        likeliest = [text for name, probability in self.top(top) for text in (name, f"{probability:.6f}")]
        return [[BETWEEN.join(self.labels), *likeliest]]

    def caption(self) -> str:
        return ", ".join(f"{name} {100 * probability:.0f} %" for name, probability in self.found()) or "no label"

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        def entries(pairs: list[tuple[str, float]]) -> list[dict[str, Any]]:
            return [{"class": name, "probability": probability} for name, probability in pairs]

        return {"labels": entries(self.found()), "top": entries(self.top(top))}

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with its labels on a band below it, so that nothing is hidden."""
        return with_text_below(image, self.caption())

    def _order(self) -> list[int]:
        return [int(i) for i in np.argsort(-self.probabilities, kind="stable")]
