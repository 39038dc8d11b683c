"""Run a .pte file with ExecuTorch. Imports NumPy, the runtime, and PyTorch, whose tensors it is given."""

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

IMPORTS_TORCH = True


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what the runtime's C++ says of the processor on standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with silent():
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime


class Model:
    """
    Args:
        threads: None is one per core. ExecuTorch has one pool of threads for all models of a process: the last one
            decides, and none may be running meanwhile.

    Attributes:
        metadata: what the file says of itself, by key.

    Raises:
        ValueError: the file cannot be read; one line.
    """

    def __init__(self, path: str, *, precision: str = "fp32", threads: int | None = None) -> None:
        try:
            with silent():
                portable_lib._unsafe_reset_threadpool(threads or cores())
                said = Runtime.get().load_program(path).load_method("handlens").execute([])[0].numpy().tobytes()
                # Another program for another method: in one, the second takes the place of the first.
                self._program = Runtime.get().load_program(path)
                self._method = self._program.load_method("forward")
        except (RuntimeError, AttributeError) as error:
            raise ValueError(next(iter(str(error).strip().splitlines()), "no reason is given")) from None
        found = json.loads(said)
        self._names: list[str] = found["outputs"]
        self.metadata: dict[str, Any] = found["metadata"]
        self.runtime = f"ExecuTorch {version('executorch')}"
        self.precision = self.metadata.get("precision", "f32")

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by output name; the file takes one image at a time."""
        # NumPy copies: torch would on threads of its own, which then wait for more in the way of ExecuTorch's.
        answers = (self._method.execute([torch.from_numpy(image[None].copy())]) for image in images)
        parts = [[made.numpy().copy() for made in answer] for answer in answers]
        return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(self._names)}
