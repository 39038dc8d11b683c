"""Peak memory of `handlens predict` over 100 and over 10,000 files: python benchmarks/predict_memory.py

At most 100 MB difference. The files are links to the flowers, in one folder.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from common import handlens, shared_images, store

files = sorted((shared_images("flowers") / "test").glob("*/*"))
image = files[0]
handlens("predict", "mobilenet_v2", image)
MEASURE = (
    "import resource, sys; from handlens.cli import run; code = run(sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
)
rows = []
with tempfile.TemporaryDirectory() as scratch:
    for count in (100, 10_000):
        folder = Path(scratch) / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:05d}.jpg").symlink_to(files[number % len(files)])
        out = Path(scratch) / f"{count}.csv"
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, "predict", "mobilenet_v2", str(folder), "--csv", str(out)],
            capture_output=True,
            text=True,
            check=True,
        )
        written = len(out.read_text(encoding="utf-8-sig").splitlines()) - 1
        rows.append({"files": count, "rows_written": written, "peak_MB": int(done.stderr.split()[-1]) / 1024})
store("predict_memory", rows, notes=[f"Difference: {rows[1]['peak_MB'] - rows[0]['peak_MB']:.0f} MB."])
