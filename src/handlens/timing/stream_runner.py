"""Run many images as `predict` does: the run's engine, one image per batch, many batches side by side."""

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
        self._engine = open_engine(Path(path), precision=precision)
        self.runtime, self.precision = self._engine.runtime, self._engine.precision
        self.metadata: dict[str, Any] = {}

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8, one after the other."""
        for _ in self._engine.stream((place, image[None]) for place, image in enumerate(images)):
            pass
        return {}
