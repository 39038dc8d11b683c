"""Run a LiteRT file in a process without handlens: python runner.py MODEL FOLDER OUT.npz PRECISION."""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

model, source, destination, precision = sys.argv[1:]
try:
    run = Interpreter(model_path=model, num_threads=1).get_signature_runner()
except (ValueError, RuntimeError) as error:
    print(f"{model} cannot be read: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    sys.exit(2)
names = list(run.get_output_details())
results = {}
for path in sorted(Path(source).glob("*.npy")):  # in each: batches, one array after the other
    parts = []
    with path.open("rb") as file:
        while file.peek(1):
            parts.extend(run(images=image[None]) for image in np.load(file))
    for name in names:
        results[f"{path.stem}/{name}"] = np.concatenate([part[name] for part in parts])
assert not {"torch", "handlens"} & set(sys.modules)
np.savez(destination, **results)  # type: ignore[arg-type]
print(f"LiteRT {version('ai-edge-litert')} f32")
