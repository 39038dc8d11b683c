"""Where predictions go: an output of `predict` is a context manager that opens what it writes, gives a function that
takes one image at a time, and closes itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import decode
from handlens.names import for_file
from handlens.results import Prediction

KEPT = 100_000_000  # bytes of a decoded image: 33 megapixels


@dataclass(frozen=True)
class Shown:
    """An image that could be read, with what the model says of it; its pixels are read when an output asks for them.

    Attributes:
        place: of the image in the list of all, from 1.
        result: of the task's kind.
    """

    path: Path
    place: int
    result: Any

    @cached_property
    def _kept(self) -> list[NDArray[np.uint8]]:
        return []

    def _whole(self) -> NDArray[np.uint8]:
        """Decoded once for all outputs, but anew each time where keeping it would take much memory."""
        if self._kept:
            return self._kept[0]
        image = decode(self.path)
        if image.nbytes <= KEPT:
            self._kept.append(image)
        return image

    def drawn(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the image at full size with the answer on it or below it."""
        return np.asarray(self.result.draw(self._whole()))

    def tile(self, side: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, as large as `side` pixels or larger: what has a place in the image is drawn there, on twice
        the size; the rest is left to a caption."""
        if self.result.on_pixels:
            return np.asarray(self.result.on_tile(self._whole(), 2 * side))
        return decode(self.path, at_least=(side, side))


Table = AbstractContextManager[Callable[[Prediction], None]]  # takes every image, also what could not be read
Sink = AbstractContextManager[Callable[[Shown], None]]


def new_name(folder: Path, image: Path, *, suffix: str) -> Path:
    """<name>.png, or <name>-2.png ...: two folders may hold images of one name, and nothing is overwritten."""
    target, number = folder / for_file(image.stem, ending=suffix), 1
    while target.exists():
        number += 1
        target = folder / for_file(image.stem, ending=f"-{number}{suffix}")
    return target
