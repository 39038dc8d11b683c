"""Run an OpenVINO model (.xml and .bin). Imports NumPy and the runtime only."""

import json
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402 - its usage statistics are blocked first


@cache
def _core() -> openvino.Core:
    """One for the whole process: of several that go, OpenVINO 2026.4.1 leaves signals without a stack."""
    return openvino.Core()


class Model:
    """
    Args:
        precision: "fp32", or "auto" for what the runtime chooses: bf16 on CPUs that have it.
        threads: None is one per core.

    Attributes:
        metadata: what the file says of itself, by key.

    Raises:
        ValueError: the file cannot be read; one line.
    """

    def __init__(self, path: str, *, precision: str = "fp32", threads: int | None = None) -> None:
        hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "fp32" else {}
        if threads:
            hints["INFERENCE_NUM_THREADS"] = threads
        core = _core()
        try:
            self._model = core.read_model(path)
            self._compiled = core.compile_model(self._model, "CPU", hints)
        except RuntimeError as error:  # the first line says where in OpenVINO's own source, the last what is wrong
            raise ValueError(str(error).strip().splitlines()[-1]) from None
        self._any_number = (
            self._compiled.inputs[0].get_partial_shape()[0].is_dynamic
        )  # one that resizes takes one image
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self.runtime = f"OpenVINO {openvino.__version__.split('-')[0]}"
        computed = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = self.metadata.get("precision", computed)

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """(N, H, W, C) uint8 -> arrays (N, ...) by output name."""
        parts = [images] if self._any_number else [image[None] for image in images]
        answers = [self._compiled({"images": part}).to_dict() for part in parts]
        made = [[answer[output] for output in self._compiled.outputs] for answer in answers]
        return {name: np.concatenate([values[place] for values in made]) for place, name in enumerate(self._names)}

    @property
    def metadata(self) -> dict[str, Any]:
        if not self._model.has_rt_info("handlens"):
            return {}
        return {key: json.loads(value) for key, value in self._model.get_rt_info("handlens").value.items()}
