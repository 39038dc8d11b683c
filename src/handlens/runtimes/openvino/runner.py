"""Run an OpenVINO model in a process without handlens: python runner.py MODEL FOLDER OUT.npz PRECISION."""

import sys
from pathlib import Path

import numpy as np

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402 - its usage statistics are blocked first

model, source, destination, precision = sys.argv[1:]
hints = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "fp32" else {}
try:
    compiled = openvino.Core().compile_model(model, "CPU", hints)
except RuntimeError as error:  # the first line says where in OpenVINO's own source, the last ones what is wrong
    print(f"{model} cannot be read: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    sys.exit(2)
names = [output.get_any_name() for output in compiled.outputs]
results = {}
for path in sorted(Path(source).glob("*.npy")):  # in each: batches, one array after the other
    parts = []
    with path.open("rb") as file:
        while file.peek(1):
            batch = np.load(file)
            parts.append(compiled({"images": batch}))
    for index, name in enumerate(names):
        results[f"{path.stem}/{name}"] = np.concatenate([part[index] for part in parts])
assert not {"torch", "handlens"} & set(sys.modules)
np.savez(destination, **results)  # type: ignore[arg-type]
print(f"OpenVINO {openvino.__version__.split('-')[0]} {compiled.get_property('INFERENCE_PRECISION_HINT').to_string()}")
