"""Images and labels with bytes changed at random: python benchmarks/fuzz.py images|labels [--count N]

Each is read or refused; anything else is a failure. Processes of PART files each, so that a crash is seen, counted and
survived. Stores how many were read, refused and failed, the longest time and the growth of memory within a process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from common import ROOT, store

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "data"))

PART = 5000

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=("images", "labels"))
parser.add_argument("--count", type=int, default=100_000)
parser.add_argument("--first", type=int, help="the number of the first mutation: one part, in this process")
asked = parser.parse_args()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measured(attempts: Iterator[tuple[int, Callable[[], object]]]) -> dict:
    """What became of (number, reading): read, refused, failures, the longest time and how memory has grown."""
    from handlens.errors import InputError

    outcomes, failures, longest, before = Counter(), [], 0.0, 0
    for done, (number, read) in enumerate(attempts):
        print(number, file=sys.stderr, flush=True)  # the last one is where a crash was
        begin = time.perf_counter()
        try:
            read()
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
        except Exception as error:
            failures.append(f"{number}: {type(error).__name__}: {error}")
        longest = max(longest, time.perf_counter() - begin)
        if done == 1000:
            before = resident()
    return {**outcomes, "failures": failures, "longest_s": longest, "grown_mb": (resident() - before) / 1e6}


def images(first: int, count: int) -> Iterator[tuple[int, Callable[[], object]]]:
    from attack.mutate import image_seeds, mutations
    from conftest import HEIC_ALPHA, HEIC_ROTATED
    from handlens.data.decode import decode

    for number, content in mutations(list(image_seeds(HEIC_ROTATED, HEIC_ALPHA).values()), count, first=first):
        yield number, partial(decode, content)


def labels(first: int, count: int) -> Iterator[tuple[int, Callable[[], object]]]:
    from test_mutations import LABEL_SEEDS

    from attack.make import photo
    from attack.mutate import mutated
    from handlens.data import open_dataset

    names = list(LABEL_SEEDS)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {}
        for name in names:
            folders[name] = Path(scratch) / name
            folders[name].mkdir()
            for number in range(2):
                photo(number).save(folders[name] / f"good{number}.png")
        (folders["data.yaml"] / "good0.txt").write_bytes(LABEL_SEEDS["good0.txt"])
        for number in range(first, first + count):
            name = names[number % len(names)]
            content = mutated(LABEL_SEEDS[name], number)
            (folders[name] / name).write_bytes(content)
            yield number, partial(open_dataset, folders[name])
            assert (folders[name] / name).read_bytes() == content, f"{number}: the file was changed"


if asked.first is not None:
    attempts = {"images": images, "labels": labels}[asked.what](asked.first, asked.count)
    print(json.dumps(measured(attempts)))
    sys.exit()

total, crashes = Counter(), []
failures: list[str] = []
longest = grown = 0.0
for first in range(0, asked.count, PART):
    count = min(PART, asked.count - first)
    command = [sys.executable, __file__, asked.what, "--first", str(first), "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        crashes.append(f"exit {done.returncode} at {done.stderr.strip().splitlines()[-1][-200:]}")
        print(crashes[-1], flush=True)
        continue
    part = json.loads(done.stdout)
    total += Counter({key: part.get(key, 0) for key in ("read", "refused")})
    failures += part["failures"]
    longest, grown = max(longest, part["longest_s"]), max(grown, part["grown_mb"])
    print(first + count, dict(total), len(failures), f"{longest:.2f} s", f"{grown:.1f} MB", flush=True)
row = {
    "what": asked.what,
    "files": asked.count,
    **total,
    "failures": len(failures),
    "crashes": len(crashes),
    "examples": [*crashes, *failures][:10],
    "longest_s": round(longest, 2),
    "grown_mb": round(grown, 1),
}
store(f"fuzz_{asked.what}", [row])
