"""Run a .tflite file with LiteRT. Imports NumPy and the runtime only."""

import json
import os
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray


class Model:
    """
    Args:
        threads: None is one per core.

    Attributes:
        metadata: what the file says of itself, by key.

    Raises:
        ValueError: the file cannot be read; one line.
    """

    def __init__(self, path: str, *, precision: str = "fp32", threads: int | None = None) -> None:
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count() or 1)
            self._run = interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from None
        self._path = path
        self.runtime = f"LiteRT {version('ai-edge-litert')}"
        self.precision = self.metadata.get("precision", "f32")

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by output name; the file takes one image at a time."""
        answers = [self._run(images=image[None]) for image in images]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

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
