"""From a trained model to something that runs: the graph that is shipped, and the runtimes that take it.

A new runtime is a new folder here and a line in `RUNTIMES`.
"""

from __future__ import annotations

from pathlib import Path

from handlens.runtimes.engine import Engine, Precision
from handlens.runtimes.executorch import ExecuTorch
from handlens.runtimes.litert import LiteRT
from handlens.runtimes.onnx import Onnx
from handlens.runtimes.openvino import OpenVINO
from handlens.runtimes.runtime import Runtime

RUNTIMES: dict[str, Runtime] = {
    "executorch": ExecuTorch(),
    "litert": LiteRT(),
    "onnx": Onnx(),
    "openvino": OpenVINO(),
}


def runtime_of(path: Path) -> Runtime | None:
    """The one whose files have this suffix."""
    return next((runtime for runtime in RUNTIMES.values() if path.suffix.lower() == runtime.suffix), None)


def open_engine(path: Path, *, precision: Precision = "auto", latency: bool = False) -> Engine:
    """A model's file as an engine of its runtime.

    Args:
        latency: tuned for one image at a time, rather than for many.

    Raises:
        InputError: its runtime is not installed, or cannot read it.
    """
    runtime = runtime_of(path)
    assert runtime is not None, path
    return runtime.engine(path, precision=precision, latency=latency)
