"""Batch norm statistics in short trainings from scratch: python benchmarks/norm_statistics.py

Per model, trained on 420 of scikit-learn's digits with two seeds: accuracy on 180 others after each of four epochs,
with running statistics restarted every epoch (as handlens trains) and with the momentum of each norm.
"""

import json
import tempfile
from pathlib import Path
from statistics import mean

from common import store
from PIL import Image
from sklearn.datasets import load_digits

import handlens
from handlens.training.norms import EpochStatistics
from handlens.training.run import read_metrics

NETS = {
    "mobilenet_v2": {"width": 0.35, "image_size": 32},
    "mini_xception": {"image_size": 40},
    "resnet18": {"image_size": 32},
}
RECIPE = {"mode": "scratch", "epochs": 4, "validation": 0.3, "augment": {"flip": 0.0, "crop_area": 1.0}}
anew = EpochStatistics.on_train_batch_start
rows = []
with tempfile.TemporaryDirectory() as scratch:
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:600], digits.target[:600], strict=True)):
        folder = Path(scratch) / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype("u1")).resize((32, 32)).save(folder / f"{number}.png")
    for net, options in NETS.items():
        for how, statistics in {"anew": anew, "fixed share": lambda *arguments: None}.items():
            EpochStatistics.on_train_batch_start = statistics
            curves = []
            for seed in (0, 1):
                run = Path(scratch) / f"{net} {how} {seed}"
                recipe = RECIPE | options | {"model": net, "seed": seed}
                handlens.train(Path(scratch) / "digits", out=run, recipe=recipe)
                curves.append([float(row["validation_top1"]) for row in read_metrics(run)])
            shown = {
                f"epoch {number}": round(mean(values), 3) for number, values in enumerate(zip(*curves, strict=True), 1)
            }
            rows.append({"net": net, "statistics": how} | shown)
            print(json.dumps(rows[-1]), flush=True)
store("norm_statistics", rows)
