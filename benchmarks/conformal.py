"""Prediction sets of heads on flowers, five splits: python benchmarks/conformal.py

Of the 4,058 photographs 30 % measure, and the rest is for training. Thresholds for 95 % come from the out-of-fold
predictions of a head that is fitted on all of the rest, or from a sixth of it that the head has not seen. Coverage
should be between 94 and 96 % on average over the splits: with 1,217 images that measure, one split is uncertain by 1.2
points. RAPS with free = 1 (of its default, 5, five classes see nothing) and penalty 0.01.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import shared_images, store

from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.split import folds, split_dataset
from handlens.evaluation.conformal import aps_scores, lac_scores, measured_sets, raps_scores, sets, threshold
from handlens.reporter import QUIET
from handlens.tasks import TASKS
from handlens.tasks.heads import FOLDS, FrozenBackbone
from handlens.tasks.starting import begin
from handlens.training.recipe_file import make_recipe

COVERAGE, SPLITS = 0.95, 5

audited = audit(open_dataset(shared_images("flowers")))
usable = audited.usable()
dataset = usable.with_records([replace(record, split=None) for record in usable.records])
task = TASKS[dataset.task]
recipe = make_recipe({"mode": "head"}).settled("head", task.defaults)
start = begin(task, recipe, dataset, QUIET)
features = FrozenBackbone(start.net, start.preprocess, audited, recipe, QUIET).features(dataset.records)
labels = np.array([record.label for record in dataset.records])
frozen = task.frozen(dataset)
rows: list[dict[str, Any]] = []
for seed in range(SPLITS):
    split = split_dataset(dataset, validation=0.7 / 6, test=0.3, seed=seed, together=audited.duplicates)
    part = np.array([record.split for record in split.records])
    test = np.flatnonzero(part == "test")
    random = np.random.default_rng(seed)
    for how, fitted in (("out of fold", part != "test"), ("validation", part == "train")):
        places = np.flatnonzero(fitted)
        records = [dataset.records[place] for place in places]
        kept = folds(records, dataset.kind, count=FOLDS, seed=seed, together=audited.duplicates)
        head = frozen.fit(features[places], records, kept, copies=1, recipe=recipe, names=dataset.class_names)

        def predicted(these: np.ndarray, head: Any = head) -> np.ndarray:
            raw = torch.from_numpy(features[these]) @ head.weight.T + head.bias
            return np.asarray(raw.softmax(dim=1).numpy())

        if how == "out of fold":
            calibration, known = head.out_of_fold, labels[places]
        else:
            validation = np.flatnonzero(part == "validation")
            calibration, known = predicted(validation), labels[validation]
        ours = predicted(test)
        u, v = random.random(len(known)), random.random(len(test))
        for name, scores, new in (
            ("LAC", lac_scores(calibration), lac_scores(ours)),
            ("APS", aps_scores(calibration, draws=u), aps_scores(ours, draws=v)),
            ("RAPS", raps_scores(calibration, free=1, draws=u), raps_scores(ours, free=1, draws=v)),
        ):
            limit = threshold(scores[np.arange(len(known)), known], COVERAGE)
            found = measured_sets(sets(new, limit), labels[test])
            rows.append(
                {
                    "thresholds from": how,
                    "images": len(known),
                    "scores": name,
                    "seed": seed,
                    "accuracy": 100 * float((ours.argmax(axis=1) == labels[test]).mean()),
                    "coverage": 100 * found["coverage"],
                    "mean size": found["mean_size"],
                    "empty": found["sizes"].get("0", 0),
                    "one class": found["sizes"].get("1", 0),
                    "measured on": found["count"],
                }
            )
            print(rows[-1], flush=True)
notes = []
for how in ("out of fold", "validation"):
    for name in ("LAC", "APS", "RAPS"):
        of = [row for row in rows if row["thresholds from"] == how and row["scores"] == name]
        coverage, size = (np.mean([row[key] for row in of]) for key in ("coverage", "mean size"))
        notes.append(f"{name}, thresholds from {how}: coverage {coverage:.2f} % on average, mean size {size:.3f}.")
store("conformal", rows, notes=notes)
