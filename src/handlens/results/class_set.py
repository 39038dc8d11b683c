"""The classes among which the truth is with a given probability, beside the likeliest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.drawing import with_text_below
from handlens.results.classes import Classes
from handlens.results.tags import BETWEEN


@dataclass(frozen=True, eq=False)
class ClassSet(Classes):
    """Classes, and a conformal prediction set of them.

    Attributes:
        limit: the set holds each class whose probability is at least 1 - limit, and always the likeliest
            (`evaluation.conformal`: LAC).
    """

    limit: float

    def members(self) -> list[tuple[str, float]]:
        """(name, probability) of the set's classes, likeliest first."""
        first, *others = self.top(len(self.names))
        return [first, *((name, probability) for name, probability in others if 1 - probability <= self.limit)]

    @staticmethod
    def columns(top: int) -> list[str]:
        return [*Classes.columns(top), "set"]

    def rows(self, top: int) -> list[list[str]]:
        """One row: the likeliest classes, then the names of the set in one cell."""
        [row] = super().rows(top)
        empty = [""] * (len(Classes.columns(top)) - len(row))  # asked for more classes than there are
        return [[*row, *empty, BETWEEN.join(name for name, _ in self.members())]]

    def caption(self) -> str:
        return " or ".join(f"{name} {100 * probability:.0f} %" for name, probability in self.members())

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        members = [{"class": name, "probability": probability} for name, probability in self.members()]
        return super().to_dict(top) | {"set": members}

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with the set on a band below it."""
        return with_text_below(image, self.caption())
