"""`handlens train flowers --mode finetune`, 3 epochs, and its curve: python benchmarks/flowers_finetune.py

At least: 93.0 % on test in at most 3 epochs.
"""

import json
import sys
import tempfile
from pathlib import Path

from common import handlens, shared_images, store

from handlens.training.run import open_run, read_metrics

flowers = shared_images("flowers")
with tempfile.TemporaryDirectory() as scratch:
    run = Path(scratch) / "run"
    seconds, _ = handlens("train", flowers, "--mode", "finetune", "--epochs", "3", "--out", run, *sys.argv[1:])
    _, output = handlens("evaluate", run, "--json")
    result = json.loads(output)
    curve = [
        {
            key: float(row[key]) if row[key] else None
            for key in ("epoch", "train_top1", "validation_top1", "validation_loss")
        }
        for row in read_metrics(run)
    ]
    recipe = open_run(run).model.recipe
metrics = result["metrics"]
low, high = metrics["top1_interval"]
store(
    "flowers_finetune",
    curve,
    notes=[
        f"Test: {100 * metrics['top1']:.2f} % of {metrics['count']} (95 %: {100 * low:.1f} to {100 * high:.1f}), "
        f"loss {metrics['loss']:.3f}; the whole command took {seconds:.0f} s.",
        f"Recipe: {json.dumps(recipe)}",
    ],
)
