"""A forecast made from half of flowers, and from a quarter, beside what all of it gives: python benchmarks/forecast.py

Of the 4,058 photographs a stratified half (a quarter) makes a forecast for as many images as four fifths of all are.
Measured is five-fold cross-validation over all, whose heads are fitted on that many. Each seed has another half, other
folds and other shares. The measured accuracy of all must lie within the forecast's 95 % interval for at least four of
five seeds, made from half. "others" is the same accuracy on the images that the forecast has not seen, which are too
few to be certain themselves.

--seeds 0,1 takes these; rows of the newest result that are not measured again are kept.
"""

import argparse
from typing import Any

import numpy as np
import torch
from common import shared_images, store, stored_before

from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.split import folds
from handlens.evaluation.forecast import Curve
from handlens.flow.forecast import measure
from handlens.reporter import QUIET
from handlens.tasks import TASKS
from handlens.tasks.heads import FrozenBackbone
from handlens.tasks.shares import SLICES, fit_shares
from handlens.tasks.starting import begin
from handlens.training.recipe_file import make_recipe

PARTS = {"half": 2, "quarter": 4}

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", default="0,1,2,3,4")
seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]


def store_so_far(made: list[dict[str, Any]]) -> None:
    """With those of the newest result that are not measured again."""
    again = {(row["from"], row["seed"]) for row in made}
    rows = [row for row in before if (row["from"], row["seed"]) not in again]
    rows = [{key: row[key] for key in made[0]} for row in rows] + made
    rows.sort(key=lambda row: (row["from"], row["seed"]))
    notes = []
    for name in PARTS:
        of_part = [row for row in rows if row["from"] == name]
        if not of_part:
            continue
        off = np.mean([abs(row["predicted"] - row["measured"]) for row in of_part])
        width = np.mean([row["high"] - row["low"] for row in of_part])
        notes.append(
            f"from a {name}: {sum(row['within'] for row in of_part)} of {len(of_part)} within the interval, "
            f"{sum(row['others within'] for row in of_part)} on the other images; off by {off:.2f} points on average, "
            f"the interval is {width:.1f} points wide."
        )
    store("forecast", rows, notes=notes)


before = stored_before("forecast")
audited = audit(open_dataset(shared_images("flowers")))
dataset = audited.usable()
records = dataset.records
task = TASKS[dataset.task]
rows: list[dict[str, Any]] = []
for seed in seeds:
    recipe = make_recipe({"mode": "head", "seed": seed}).settled("head", task.defaults)
    start = begin(task, recipe, dataset, QUIET)
    frozen = task.frozen(dataset)
    everything = fit_shares(
        frozen,
        FrozenBackbone(start.net, start.preprocess, audited, recipe, QUIET).features(records),
        records,
        kind=dataset.kind,
        recipe=recipe,
        names=dataset.class_names,
        together=audited.duplicates,
        shares=(SLICES,),
        rounds=1,
        progress=lambda done, total: None,
    )
    images, raw = everything.images[0], torch.from_numpy(everything.raw[0, 0])
    accuracy = frozen.score(raw, records)[0]
    for name, count in PARTS.items():
        part = folds(records, dataset.kind, count=count, seed=1000 + seed, together=audited.duplicates) == 0
        curve = Curve(measure(audited, recipe, QUIET, records=[records[place] for place in np.flatnonzero(part)]))
        [predicted], [low], [high] = (100 * values for values in curve.metric([images]))
        others = np.flatnonzero(~part)
        elsewhere = frozen.score(raw[others], [records[place] for place in others])[0]
        row = {
            "from": name,
            "seed": seed,
            "images": curve.measured.total,
            "fitted, largest share": float(curve.measured.images[-1]),
            "accuracy there": 100 * (1 - float(curve.measured.errors[-1])),
            "forecast for": float(images),
            "predicted": float(predicted),
            "low": float(low),
            "high": float(high),
            "measured": 100 * accuracy,
            "within": bool(low <= 100 * accuracy <= high),
            "others": 100 * elsewhere,
            "others within": bool(low <= 100 * elsewhere <= high),
        }
        rows.append(row)
        print(row, flush=True)
    store_so_far(rows)  # it takes long
