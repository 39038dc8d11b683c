"""From a trained model to something that runs: the graph that is shipped, and the runtimes that take it.

A new runtime is a new folder here and a line in `RUNTIMES`.
"""

from __future__ import annotations

from handlens.runtimes.litert import LiteRT
from handlens.runtimes.onnx import Onnx
from handlens.runtimes.openvino import OpenVINO
from handlens.runtimes.runtime import Runtime

RUNTIMES: dict[str, Runtime] = {
    "litert": LiteRT(),
    "onnx": Onnx(),
    "openvino": OpenVINO(),
}
