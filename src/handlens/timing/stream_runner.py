"""Run images as `predict` does: the first one on an engine tuned for a few images; many on one tuned for many, one
image per batch and several batches at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.runtimes import open_engine
from handlens.runtimes.engine import Precision


class Model:
    """
    Args:
        threads: is not heard: the engine takes what it takes.
    """

    def __init__(self, path: str, *, precision: Precision = "auto", threads: int | None = None) -> None:
        self._path, self._precision, self._few = Path(path), precision, True
        self._engine = open_engine(self._path, precision=precision, latency=True)
        self.runtime, self.precision = self._engine.runtime, self._engine.precision
        self.metadata: dict[str, Any] = {}

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8, one after the other."""
        if len(images) == 1 and self._few:
            return self._engine.run(images)
        if self._few:
            self._few, self._engine = False, open_engine(self._path, precision=self._precision)
        for _ in self._engine.stream((place, image[None]) for place, image in enumerate(images)):
            pass
        return {}
