"""`predict` over 100,000 files, among them 1,000 bad ones of 40 kinds: python benchmarks/predict_many.py [--files N]

Good files are fifty small JPEGs, named again and again; bad ones are what tests/attack has as images that cannot be
read and as what is no file. Every good one must be answered, every bad one named, in order. Memory and descriptors of
the process are read every 5,000 answers.
"""

import argparse
import itertools
import resource
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, store

sys.path.insert(0, str(ROOT / "tests"))
import handlens
from attack.images import CASES
from attack.make import NOT_FILES, encoded, photo

parser = argparse.ArgumentParser()
parser.add_argument("--files", type=int, default=100_000)
asked = parser.parse_args()


def bad_kinds(folder: Path) -> list[Path]:
    """One file of each kind that prediction refuses."""
    found = []
    refused = [case for case in CASES if case.name.endswith(": predict") and case.exit == (1,) and case.seconds <= 20]
    for number, case in enumerate(refused):
        place = folder / str(number)
        place.mkdir()
        case.make(place)
        found += [path for path in place.iterdir() if path.name.startswith("bad")]
    for number, (kind, make) in enumerate(NOT_FILES.items()):
        if kind == "a folder":  # that is looked into
            continue
        path = folder / f"no-file-{number}" / "bad.jpg"
        path.parent.mkdir()
        make(path)
        found.append(path)
    return found


def used() -> tuple[float, int]:
    """MB of this process, and its descriptors."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6, len([*Path("/proc/self/fd").iterdir()])


with tempfile.TemporaryDirectory() as scratch:
    root = Path(scratch)
    (root / "kinds").mkdir()
    bad = bad_kinds(root / "kinds")
    good = []
    for number in range(50):
        path = root / f"good{number}.jpg"
        path.write_bytes(encoded("JPEG", photo(number, size=(160, 120))))
        good.append(path)
    few = max(1, asked.files // 100)
    paths = [good[n % 50] for n in range(asked.files - few)]
    for number in range(few):
        paths.insert(number * 100 + 50, bad[number % len(bad)])
    data = handlens.sample("bakery", root / "bakery", per_class=10, test_per_class=2, size=64)
    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0}
    run = handlens.train(data, out=root / "run", recipe=recipe)  # small, so that files take the time and not the model
    answered = named = wrong = 0
    memory: list[float] = []
    descriptors: list[int] = []
    begin = time.perf_counter()
    expected = iter(paths)
    for place, prediction in enumerate(handlens.predict(run, itertools.chain(paths))):
        path = next(expected)
        wrong += prediction.path != path
        if prediction.result is None:
            named += path in bad and path.name in (prediction.error or "")
            wrong += path not in bad
        else:
            answered += 1
            wrong += path in bad
        if place % 5000 == 4999:
            mb, open_now = used()
            memory.append(mb)
            descriptors.append(open_now)
            print(place + 1, f"{mb:.0f} MB", open_now, flush=True)
    seconds = time.perf_counter() - begin

row = {
    "files": asked.files,
    "bad kinds": len(bad),
    "answered": answered,
    "bad named": named,
    "wrong": wrong,
    "seconds": round(seconds, 1),
    "MB at first": round(memory[0]),
    "MB at last": round(memory[-1]),
    "MB grown": round(max(memory) - memory[0]),
    "descriptors grown": max(descriptors) - descriptors[0],
}
store("predict_many", [row])
