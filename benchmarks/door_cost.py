"""What the door for files costs: python benchmarks/door_cost.py BEFORE [--rounds N]

`check` of the flowers and `predict` of their test images, each in a process of its own, by these sources and those of
another checkout (BEFORE, its src folder), in turn; processor time of the process, and the ratio of the medians.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from common import ROOT, interleaved, shared_images, store

parser = argparse.ArgumentParser()
parser.add_argument("before", type=Path)
parser.add_argument("--rounds", type=int, default=7)
asked = parser.parse_args()
data = shared_images("flowers")


def processor_seconds(sources: Path, *arguments: str) -> float:
    environment = os.environ | {"PYTHONPATH": str(sources), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "handlens", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    _, status, used = os.wait4(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1), arguments
    child.returncode = 0
    return used.ru_utime + used.ru_stime


rows = []
with tempfile.TemporaryDirectory() as scratch:
    commands = {
        "check": ("check", str(data), "--quiet"),
        "predict": ("predict", "mobilenet_v2", str(data / "test"), "--csv", f"{scratch}/out.csv", "--quiet"),
    }
    for name, arguments in commands.items():
        rivals = {"before": asked.before, "now": ROOT / "src"}
        for sources in rivals.values():
            processor_seconds(sources, *arguments)  # caches
        medians = interleaved(
            {which: partial(processor_seconds, sources, *arguments) for which, sources in rivals.items()},
            rounds=asked.rounds,
        )
        rows.append({"command": name, **medians, "ratio": medians["now"] / medians["before"]})
store("door_cost", rows)
