"""The best runtime against eager PyTorch, MobileNetV2, one image, float32: python benchmarks/best_runtime.py [ROUNDS]

At least 5 x, in the same run, with as many threads.
"""

import sys
import time

import torch
from common import store

import handlens
from handlens.flow.bench import bench

MULTIPLY_ADDS = 300.8e6  # of MobileNetV2 at 224


def of_a_matrix_product() -> float:
    """Multiply-adds per second of PyTorch's float32 matrix product on one thread, the best of 30."""
    torch.set_num_threads(1)
    size = 1024
    left, right = torch.randn(2, size, size)
    times = []
    for _ in range(30):
        begin = time.process_time()
        torch.mm(left, right)
        times.append(time.process_time() - begin)
    return size**3 / min(times)


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
found = bench("mobilenet_v2", batches=[1], rounds=rounds, report=handlens.Reporter(say=print))
rows = [row for row in found["rows"] if row["precision"] == "f32"]
for threads in sorted({row["threads"] for row in rows}):
    best = max((row for row in rows if row["threads"] == threads), key=lambda row: row["faster"])
    print(f"{threads} threads: {best['name']}, {best['faster']:.2f} x")
least = 1000 * MULTIPLY_ADDS / of_a_matrix_product()
eager = next(row for row in rows if row["name"] == "PyTorch" and row["threads"] == 1)
limit = (
    f"As fast as a matrix product on one thread, its multiply-adds would take {least:.1f} ms: "
    f"{eager['median_ms'] / least:.1f} times as fast as eager PyTorch."
)
keys = ("name", "runtime", "threads", "median_ms", "p90_ms", "processor_ms", "first_s", "peak_mb", "faster")
store(
    "best_runtime",
    [{key: row[key] for key in keys} for row in rows],
    notes=[
        f"Load of the machine before: {found['machine']['load']}. {rounds} rounds.",
        limit,
        *(f"Left out: {entry['name']}: {entry['reason']}" for entry in found["left_out"]),
    ],
)
