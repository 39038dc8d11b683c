"""Run an .onnx file with ONNX Runtime. Imports NumPy and the runtime only."""

import json
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class Model:
    """
    Args:
        threads: None is one per core.
        kernels: "precise": those of 8 bits cannot overflow; or those that are fastest here.

    Attributes:
        metadata: what the file says of itself, by key.

    Raises:
        ValueError: the file cannot be read; one line.
    """

    def __init__(self, path: str, *, precision: str = "fp32", threads: int | None = None, kernels: str = "") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        if kernels == "precise":
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own have no common class
            raise ValueError(str(error).strip().splitlines()[-1]) from None
        self._any_number = self._session.get_inputs()[0].shape[0] != 1  # a file that resizes takes one image
        self._names = [output.name for output in self._session.get_outputs()]
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self.precision = self.metadata.get("precision", "f32")

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by output name."""
        parts = [images] if self._any_number else [image[None] for image in images]
        answers = [self._session.run(self._names, {"images": part}) for part in parts]
        return {name: np.concatenate([answer[place] for answer in answers]) for place, name in enumerate(self._names)}

    @property
    def metadata(self) -> dict[str, Any]:
        entries = self._session.get_modelmeta().custom_metadata_map
        ours = {key.removeprefix("handlens."): value for key, value in entries.items() if key.startswith("handlens.")}
        return {key: json.loads(value) for key, value in ours.items()}
