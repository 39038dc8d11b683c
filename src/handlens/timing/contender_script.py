"""Run one model so many times when told.

    python contender_script.py RUNNER MODEL PRECISION THREADS HEIGHT WIDTH CHANNELS

RUNNER is a file with a class Model (runtimes/*/runner.py). After the first answer a line of JSON says what runs; then,
for each line "<batch> <count>" on standard input, one says how long each of the runs took. Where the model cannot be
read: one sentence on standard error, and exit code 2.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else prints


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


def reply(**values: object) -> None:
    print(json.dumps(values), file=replies, flush=True)


runner, path, precision, threads, *shape = sys.argv[1:]
specification = importlib.util.spec_from_file_location("runner", runner)
assert specification is not None and specification.loader is not None
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
try:
    model = module.Model(path, precision=precision, threads=int(threads))
except ValueError as error:
    print(f"{path} cannot be read: {error}", file=sys.stderr)
    sys.exit(2)
batches = {1: np.random.default_rng(0).integers(0, 256, (1, *map(int, shape)), dtype=np.uint8)}
model.run(batches[1])
reply(runtime=model.runtime, precision=model.precision, peak_mb=peak_megabytes())
for line in sys.stdin:
    batch, count = map(int, line.split())
    if batch not in batches:
        batches[batch] = np.repeat(batches[1], batch, axis=0)
    images = batches[batch]
    model.run(images)  # the others have had the caches since
    seconds = []
    used = time.process_time()
    for _ in range(count):
        begin = time.perf_counter()
        model.run(images)
        seconds.append(time.perf_counter() - begin)
    reply(seconds=seconds, processor=time.process_time() - used, peak_mb=peak_megabytes())
