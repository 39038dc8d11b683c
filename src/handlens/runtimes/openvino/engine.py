"""OpenVINO on this machine's processor. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.runtimes.engine import Arrays, Precision


class OpenVINOEngine:
    """OpenVINO on the CPU.

    Args:
        model: an .xml or .onnx file, or a model in memory.
        precision: "fp32", or "auto" for what the runtime chooses: bf16 on CPUs that have it.
        latency: tuned for one image at a time, rather than for many.
    """

    def __init__(self, model: Path | Any, *, precision: Precision = "auto", latency: bool = False) -> None:
        ov, core = import_openvino(), shared_core()
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY" if latency else "THROUGHPUT"}
        cache: dict[str, Any] = {}
        if isinstance(model, Path):
            with contextlib.suppress(OSError):  # a cache that cannot be written saves no time and breaks nothing
                (cache_folder() / "openvino").mkdir(parents=True, exist_ok=True)
                cache = {"CACHE_DIR": str(cache_folder() / "openvino")}
            try:
                model = core.read_model(model)
            except RuntimeError as error:
                # The first line says where in OpenVINO's own source.
                raise InputError(f"OpenVINO cannot read {model}: {str(error).strip().splitlines()[-1]}") from None
        if precision == "fp32":
            hints["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            self._compiled = core.compile_model(model, "CPU", hints | cache)
        except RuntimeError:  # a file in the cache that another process is writing, or that is damaged
            self._compiled = core.compile_model(model, "CPU", hints)
        self._ov = ov
        self.runtime = f"OpenVINO {ov.__version__.split('-')[0]}"
        computed = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        ours = isinstance(model, ov.Model) and model.has_rt_info("handlens")
        self.metadata: Mapping[str, Any] = metadata_of(model) if ours else {}
        self.precision = str(self.metadata.get("precision", computed))
        self._names = [output.get_any_name() for output in self._compiled.outputs]

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        result = self._compiled([images])
        return {name: result[index].copy() for index, name in enumerate(self._names)}

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        # One more than keeps the processor busy: it is waiting when another ends.
        requests = [self._compiled.create_infer_request() for _ in range(self.parallel + 1)]
        waiting: list[tuple[Any, Any]] = []  # (key, request), oldest first
        for key, images in batches:
            if not requests:
                yield self._finish(waiting.pop(0), requests)
            request = requests.pop()
            request.start_async([images], share_inputs=True)
            waiting.append(((key, images), request))  # the pixels must live as long as the request
        while waiting:
            yield self._finish(waiting.pop(0), requests)

    @property
    def parallel(self) -> int:
        """How many batches keep the processor busy."""
        return int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def _finish(self, entry: tuple[Any, Any], requests: list[Any]) -> tuple[Any, Arrays]:
        (key, _), request = entry
        request.wait()
        arrays = {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(self._names)}
        requests.append(request)
        return key, arrays


def metadata_of(model: Any) -> dict[str, Any]:
    """What a file of ours says of itself.

    Raises:
        InputError: it has been damaged.
    """
    try:
        return {key: json.loads(value) for key, value in model.get_rt_info("handlens").value.items()}
    except (ValueError, AttributeError, RecursionError):
        raise InputError("the metadata of an OpenVINO model is damaged; export it again.") from None


@functools.cache
def shared_core() -> Any:
    """The one `openvino.Core` of this process, which lives as long as it.

    The processor's part of OpenVINO gives signals a stack of its own, and when a Core goes, the one from before again.
    Of two that go in the order in which they came, a stack is left that is no longer there: the next signal that
    Python handles (Ctrl-C, a process that ends) is then a segmentation fault. Seen with OpenVINO 2026.4.1.
    """
    return import_openvino().Core()


def import_openvino() -> Any:
    """OpenVINO without its usage statistics, which `convert_model` would otherwise send without asking."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    if sys.modules["openvino_telemetry"] is not None:  # somebody imported OpenVINO before us
        from openvino.tools.ovc import convert_impl, telemetry_stub, telemetry_utils, utils

        for module in (convert_impl, telemetry_utils, utils):
            module.tm = telemetry_stub
    return openvino
