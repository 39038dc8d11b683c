"""Run a .tflite file with LiteRT. Imports NumPy and the runtime only."""

import contextlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

RESOLVERS = {
    "": OpResolverType.AUTO,
    "reference": OpResolverType.BUILTIN_REF,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what the runtime's C++ says of itself on standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Model:
    """
    Args:
        threads: None is one per core.
        kernels: "reference", "builtin" (without XNNPACK), or those that are fastest here.

    Attributes:
        metadata: what the file says of itself, by key.

    Raises:
        ValueError: the file cannot be read; one line.
    """

    def __init__(self, path: str, *, precision: str = "fp32", threads: int | None = None, kernels: str = "") -> None:
        try:
            with silent():
                self._interpreter = Interpreter(
                    model_path=str(path),
                    num_threads=threads or cores(),
                    experimental_op_resolver_type=RESOLVERS[kernels],
                )
                self._interpreter.allocate_tensors()  # this is where fast kernels take their operators
                self._run = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from None
        self._path = path
        self.runtime = f"LiteRT {version('ai-edge-litert')}"
        self.precision = self.metadata.get("precision", "f32")

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by output name; the file takes one image at a time."""
        answers = [self._run(images=image[None]) for image in images]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def operators(self) -> list[dict[str, Any]]:
        """Each with index, op_name, inputs and outputs, delegates among them."""
        return list(self._interpreter._get_ops_details())

    @property
    def metadata(self) -> dict[str, Any]:
        with open(self._path, "rb") as file:  # noqa: PTH123 - apps copy this file
            model = schema.Model.GetRootAsModel(file.read(), 0)
        found = {}
        for number in range(model.MetadataLength()):
            entry = model.Metadata(number)
            name = entry.Name().decode()
            if name.startswith("handlens."):
                found[name.removeprefix("handlens.")] = json.loads(
                    model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
                )
        return found
