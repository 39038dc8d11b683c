"""What a model says about an image. Frozen, checked at birth, ready for a file or a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from handlens.results.boxes import Boxes
from handlens.results.class_set import ClassSet
from handlens.results.classes import Classes
from handlens.results.known import KnownClasses
from handlens.results.mask import Mask
from handlens.results.numbers import Numbers
from handlens.results.tags import Tags


class Result(Protocol):
    """What every kind of result can be asked for.

    Attributes:
        on_pixels: whether `draw` shows places in the image; then `on_tile(image, side)` does so on a copy whose longer
            side has `side` pixels. Otherwise `draw` writes the caption below the image.
    """

    on_pixels: ClassVar[bool]

    @staticmethod
    def columns(top: int) -> list[str]:
        """The header of a table of results; `top` is how many classes per image, where that means something."""
        ...

    def rows(self, top: int) -> list[list[str]]:
        """Rows of that table; none where there is nothing to say of the image."""
        ...

    def caption(self) -> str:
        """In a few words."""
        ...

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON."""
        ...

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the image (H, W, 3) uint8 with the answer on it or below it."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What came of one file: a result, or the reason why there is none."""

    path: Path
    result: Result | None
    error: str | None = None


__all__ = ["Boxes", "ClassSet", "Classes", "KnownClasses", "Mask", "Numbers", "Prediction", "Result", "Tags"]
