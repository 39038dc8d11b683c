"""Run an OpenVINO model in a process without handlens: python openvino_runner.py MODEL IN.npz OUT.npz PRECISION."""

import sys

import numpy as np

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402 - its usage statistics are blocked first

model, source, destination, precision = sys.argv[1:]
hints = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "fp32" else {}
compiled = openvino.Core().compile_model(model, "CPU", hints)
names = [output.get_any_name() for output in compiled.outputs]
pixels = np.load(source)
results = {}
for key in pixels.files:
    parts = [compiled({"images": pixels[key][i : i + 16]}) for i in range(0, len(pixels[key]), 16)]
    for index, name in enumerate(names):
        results[f"{key}/{name}"] = np.concatenate([part[index] for part in parts])
assert not {"torch", "handlens"} & set(sys.modules)
np.savez(destination, **results)  # type: ignore[arg-type]
print(f"OpenVINO {openvino.__version__.split('-')[0]} {compiled.get_property('INFERENCE_PRECISION_HINT').to_string()}")
