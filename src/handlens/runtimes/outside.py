"""Run an exported model in a process without handlens:
python outside.py RUNNER MODEL FOLDER OUT.npz PRECISION [KERNELS IMAGES].

FOLDER holds .npy files, in each of which batches of images follow each other. Prints a line "done <images>" after each
batch and at last one line of JSON; or one sentence on standard error, and exits with 2, where the model cannot be read.
"""

import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

TIMED = 15  # runs with one image, for the latency


def peak_megabytes() -> float | None:
    """Of this process, in memory at once; None where the system has no such count."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux is at least what the process had that started this one
        found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(found[0].split()[1]) * 1024 / 1e6 if found else None
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


runner, path, source, destination, precision, *others = sys.argv[1:]
options = {"kernels": others[0]} if others and others[0] else {}
most = int(others[1]) if others else sys.maxsize
specification = importlib.util.spec_from_file_location("runner", runner)
assert specification is not None and specification.loader is not None
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
try:
    model = module.Model(path, precision=precision, **options)
except ValueError as error:
    print(f"{path} cannot be read: {error}", file=sys.stderr)
    sys.exit(2)
files = sorted(Path(source).glob("*.npy"))
with files[0].open("rb") as file:
    image = np.load(file)[:1]
times = []
for _ in range(1 + (0 if options else TIMED)):
    begin = time.perf_counter()
    model.run(image)
    times.append(time.perf_counter() - begin)
peak = peak_megabytes()  # before whole batches are in memory
results, done = {}, 0
for place in files:
    parts: list[dict[str, np.ndarray]] = []
    count = 0
    with place.open("rb") as file:
        while file.peek(1) and count < most:
            batch = np.load(file)[: most - count]
            parts.append(model.run(batch))
            count += len(batch)
            done += len(batch)
            print(f"done {done}", flush=True)
    for name in parts[0]:
        results[f"{place.stem}/{name}"] = np.concatenate([part[name] for part in parts])
assert "handlens" not in sys.modules
assert "torch" not in sys.modules or getattr(module, "IMPORTS_TORCH", False)
np.savez(destination, **results)  # type: ignore[arg-type]
description = {
    "runtime": model.runtime,
    "precision": model.precision,
    "latency_ms": 1000 * statistics.median(times[1:] or times),
    "peak_mb": peak,
}
print(json.dumps(description))
