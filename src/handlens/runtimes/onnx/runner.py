"""Run an ONNX file in a process without handlens: python runner.py MODEL FOLDER OUT.npz PRECISION."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

model, source, destination, precision = sys.argv[1:]
try:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
except Exception as error:  # ONNX Runtime's own have no common class
    print(f"{model} cannot be read: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    sys.exit(2)
names = [output.name for output in session.get_outputs()]
results = {}
for path in sorted(Path(source).glob("*.npy")):  # in each: batches, one array after the other
    parts = []
    with path.open("rb") as file:
        while file.peek(1):
            batch = np.load(file)
            parts.append(session.run(names, {"images": batch}))
    for index, name in enumerate(names):
        results[f"{path.stem}/{name}"] = np.concatenate([part[index] for part in parts])
assert not {"torch", "handlens"} & set(sys.modules)
np.savez(destination, **results)  # type: ignore[arg-type]
print(f"ONNX Runtime {onnxruntime.__version__} f32")
