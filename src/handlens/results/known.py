"""A class, and whether the image looks like any of the classes at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.drawing import with_text_below
from handlens.results.classes import Classes

NONE_OF_THESE = "none of these"


@dataclass(frozen=True, eq=False)
class KnownClasses(Classes):
    """Classes, and how usual the image is among images of the classes.

    Attributes:
        p: of images of the classes, at most a share a have a p of a or less (`evaluation.unknown.p_values`).
        limit: an image with a p of at most this is taken for none of the classes.
    """

    p: float
    limit: float

    @property
    def unknown(self) -> bool:
        return self.p <= self.limit

    @staticmethod
    def columns(top: int) -> list[str]:
        return [*Classes.columns(top), "unknown", "p"]

    def rows(self, top: int) -> list[list[str]]:
        """One row: the likeliest classes, then "yes" or "no", and p."""
        [row] = super().rows(top)
        empty = [""] * (len(Classes.columns(top)) - len(row))  # asked for more classes than there are
        return [[*row, *empty, "yes" if self.unknown else "no", f"{self.p:.6f}"]]

    def caption(self) -> str:
        return f"{NONE_OF_THESE} ({super().caption()})" if self.unknown else super().caption()

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        return super().to_dict(top) | {"unknown": self.unknown, "p": self.p}

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with its caption on a band below it."""
        return with_text_below(image, self.caption())
