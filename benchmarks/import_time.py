"""Time of `import handlens.models` compared with `import torch`: python benchmarks/import_time.py"""

import subprocess
import sys
import time
from collections.abc import Callable

from common import interleaved, store


def importing(module: str) -> Callable[[], float]:
    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        return time.perf_counter() - begin

    return seconds


found = interleaved({name: importing(name) for name in ("torch", "handlens.models", "torchvision")}, rounds=9)
rows = [
    {"import": name, "seconds": round(s, 2), "ratio to torch": round(s / found["torch"], 2)}
    for name, s in found.items()
]
store("import_time", rows, notes=["asked for: handlens.models at most 1.3 x torch"])
