"""Run a module that torch.save wrote, in PyTorch: eager, or compiled by torch.compile."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

EAGER, COMPILED = "eager", "compiled"


class Model:
    """
    Args:
        path: of a module (N, H, W, C) uint8 tensor -> tensors; a file that we wrote, for it may hold code.
        precision: EAGER or COMPILED; both compute in float32.
        threads: None is as many as PyTorch takes.
    """

    def __init__(self, path: str, *, precision: str = EAGER, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._module = torch.load(path, weights_only=False).eval()
        if precision == COMPILED:
            self._module = torch.compile(self._module)
        self.runtime = f"PyTorch {torch.__version__.partition('+')[0]}"
        self.precision = "f32"
        self.metadata: dict[str, Any] = {}

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by place."""
        with torch.inference_mode():
            answer = self._module(torch.from_numpy(images))
        parts = answer if isinstance(answer, tuple) else (answer,)
        return {str(place): part.numpy() for place, part in enumerate(parts)}
