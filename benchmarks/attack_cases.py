"""How many of the attack's cases are held, by group: python benchmarks/attack_cases.py [GROUP ...]

The cases and the one who runs them are those of tests/attack. Those that are not held are named with what did not hold.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, store

sys.path.insert(0, str(ROOT / "tests"))
import handlens
from attack.case import Runner
from attack.groups import GROUPS

parser = argparse.ArgumentParser()
parser.add_argument("groups", nargs="*", default=list(GROUPS))
asked = parser.parse_args()

rows = []
with tempfile.TemporaryDirectory() as scratch:
    root = Path(scratch)
    data = handlens.sample("bakery", root / "bakery", per_class=10, test_per_class=2, size=64)
    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0}
    run = handlens.train(data, out=root / "run", recipe=recipe)
    few = {"to": "openvino", "images": 8, "app": False}
    handlens.export(run, **few)
    handlens.export(run, **few, int8=True, max_drop=100)
    runner = Runner(run)
    for group in asked.groups:
        begin, failed = time.perf_counter(), {}
        for number, case in enumerate(GROUPS[group]):
            with tempfile.TemporaryDirectory(dir=root) as place:
                folder = Path(place) / "case"
                folder.mkdir()
                if faults := runner(case, folder).faults():
                    failed[case.name] = faults
                    print(group, number, case.name, faults, flush=True)
        rows.append(
            {
                "group": group,
                "cases": len(GROUPS[group]),
                "held": len(GROUPS[group]) - len(failed),
                "seconds": round(time.perf_counter() - begin),
                "failed": failed,
            }
        )
        print(rows[-1], flush=True)
    runner.close()
store("attack", rows)
