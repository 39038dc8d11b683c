"""`check` over 100,000 images that all differ, 1 in 100 cut in half: python benchmarks/check_many.py [--files N]

Memory and descriptors of the process are read twice a second. What it holds for each image (its row, its digest, its
fingerprint) grows with the folder, and is stated; nothing else may, and no descriptor.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import ROOT, store

sys.path.insert(0, str(ROOT / "tests"))
from PIL import Image

from attack.make import encoded

parser = argparse.ArgumentParser()
parser.add_argument("--files", type=int, default=100_000)
asked = parser.parse_args()


def used(process: int) -> tuple[float, int]:
    """MB of a process, and its descriptors."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6, len([*Path(f"/proc/{process}/fd").iterdir()])


def measured(folder: Path, count: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % 10}"
        place.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((64, 64))
        content = encoded("JPEG", small)
        (place / f"{number}.jpg").write_bytes(content[: len(content) // 2] if number % 100 == 50 else content)
    command = [sys.executable, "-m", "handlens", "check", str(folder), "--json"]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        seen = []
        while process.poll() is None:
            try:
                seen.append(used(process.pid))
            except (FileNotFoundError, IndexError):  # it has ended
                break
            time.sleep(0.5)
        process.wait()
        seconds = time.perf_counter() - begin
        out.seek(0)
        said = json.load(out)
    warm = len(seen) // 10
    return {
        "files": count,
        "exit": process.returncode,
        "seconds": round(seconds, 1),
        "unreadable": len(said["unreadable"]),
        "peak_mb": round(max(mb for mb, _ in seen)),
        "warm_mb": round(seen[warm][0]),
        "descriptors_warm": seen[warm][1],
        "descriptors_most": max(count for _, count in seen),
    }


rows = []
for count in (asked.files // 10, asked.files):
    with tempfile.TemporaryDirectory() as scratch:
        rows.append(measured(Path(scratch), count))
        print(rows[-1], flush=True)
assert all(row["unreadable"] == row["files"] // 100 for row in rows), rows
few, many = rows
per_image = (many["peak_mb"] - few["peak_mb"]) * 1e3 / (many["files"] - few["files"])
print(f"{per_image:.1f} kB per image beyond {few['files']:,}")
store("check_many", [row | {"kb_per_image": round(per_image, 2)} for row in rows])
