"""The best runtime against eager PyTorch, MobileNetV2, one image, float32: python benchmarks/best_runtime.py [ROUNDS]

At least 5 x, in the same run, with as many threads.
"""

import sys

from common import store

import handlens
from handlens.flow.bench import bench

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
found = bench("mobilenet_v2", batches=[1], rounds=rounds, report=handlens.Reporter(say=print))
rows = [row for row in found["rows"] if row["precision"] == "f32"]
for threads in sorted({row["threads"] for row in rows}):
    best = max((row for row in rows if row["threads"] == threads), key=lambda row: row["faster"])
    print(f"{threads} threads: {best['name']}, {best['faster']:.2f} x")
keys = ("name", "runtime", "threads", "median_ms", "p90_ms", "processor_ms", "first_s", "peak_mb", "faster")
store(
    "best_runtime",
    [{key: row[key] for key in keys} for row in rows],
    notes=[
        f"Load of the machine before: {found['machine']['load']}. {rounds} rounds.",
        *(f"Left out: {entry['name']}: {entry['reason']}" for entry in found["left_out"]),
    ],
)
