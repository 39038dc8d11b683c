"""Run an ONNX file in a process without handlens: python onnx_runner.py MODEL IN.npz OUT.npz PRECISION."""

import sys

import numpy as np
import onnxruntime

model, source, destination, precision = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
pixels = np.load(source)
results = {}
for key in pixels.files:
    parts = [session.run(names, {"images": pixels[key][i : i + 16]}) for i in range(0, len(pixels[key]), 16)]
    for index, name in enumerate(names):
        results[f"{key}/{name}"] = np.concatenate([part[index] for part in parts])
assert not {"torch", "handlens"} & set(sys.modules)
np.savez(destination, **results)  # type: ignore[arg-type]
print(f"ONNX Runtime {onnxruntime.__version__} f32")
