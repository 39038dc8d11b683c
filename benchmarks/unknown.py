"""Scores for "none of these" on flowers, head mode: python benchmarks/unknown.py

Near: each flower is left out of training in turn, and its images are the unknown ones. Far: objects (coco_val128),
streets (camvid) and drawn breads (bakery) against all flowers. Known images are those of the test split.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import shared_images, store

import handlens
from handlens.data import open_dataset, walk
from handlens.data.check import audit
from handlens.data.split import folds, split_dataset
from handlens.evaluation import unknown
from handlens.flow.embeddings import embed, embedder_of
from handlens.flow.runs import find_run
from handlens.reporter import QUIET
from handlens.tasks import TASKS
from handlens.tasks.heads import FOLDS, FrozenBackbone
from handlens.tasks.starting import begin
from handlens.training.recipe_file import make_recipe

audited = audit(open_dataset(shared_images("flowers")))
dataset = split_dataset(audited.usable(), validation=0.15, seed=0, together=audited.duplicates)
task = TASKS[dataset.task]
recipe = make_recipe({"mode": "head"}).settled("head", task.defaults)
start = begin(task, recipe, dataset, QUIET)
backbone = FrozenBackbone(start.net, start.preprocess, audited, recipe, QUIET)
names = dataset.class_names
learned = [*dataset.part("train"), *dataset.part("validation")]
tested = list(dataset.part("test"))


def labels_of(records: list) -> np.ndarray:
    return np.array([record.label for record in records])


train_x, test_x = backbone.features(learned), backbone.features(tested)
train_y, test_y = labels_of(learned), labels_of(tested)
frozen = task.frozen(dataset)


def scores(fitted: np.ndarray, asked: np.ndarray, renumbered: np.ndarray) -> dict[str, Any]:
    """How a head on some training images is fitted, and every score of `asked` features."""
    records = [replace(learned[i], label=int(renumbered[train_y[i]])) for i in np.flatnonzero(fitted)]
    kept = folds(records, dataset.kind, count=FOLDS, seed=0, together=audited.duplicates)
    known_names = [name for name, number in zip(names, renumbered, strict=True) if number >= 0]
    head = frozen.fit(train_x[fitted], records, kept, copies=1, recipe=recipe, names=known_names)
    logits = (torch.from_numpy(asked) @ head.weight.T + head.bias).numpy()
    probabilities = torch.from_numpy(logits).softmax(dim=1).numpy()
    features, labels = train_x[fitted], labels_of(records)
    return {
        "max probability": unknown.max_probability(probabilities),
        "energy": unknown.energy(logits),
        "GEN": unknown.generalized_entropy(probabilities),
        "KNN": unknown.Neighbors.of(features).scores(asked),
        "KNN 1": unknown.Neighbors.of(features, k=1).scores(asked),
        "KNN 50": unknown.Neighbors.of(features, k=50).scores(asked),
        "Mahalanobis": unknown.Gaussians.of(features, labels).scores(asked),
    }


rows: list[dict[str, Any]] = []
found: dict[str, dict[str, float]] = {}
for left_out, name in enumerate(names):
    fitted = train_y != left_out
    others = np.concatenate([train_x[~fitted], test_x[test_y == left_out]])
    known = test_x[test_y != left_out]
    renumbered = np.array([-1 if k == left_out else k - (k > left_out) for k in range(len(names))])
    for score, values in scores(fitted, np.concatenate([known, others]), renumbered).items():
        found.setdefault(score, {})[f"near {name}"] = unknown.auroc(values[: len(known)], values[len(known) :])
with tempfile.TemporaryDirectory() as scratch:
    bakery = handlens.sample("bakery", Path(scratch) / "bakery", per_class=20)
    far = {
        "coco_val128": shared_images("coco_val128") / "images",
        "camvid": shared_images("camvid") / "images",
        "bakery": bakery,
    }
    embedder = embedder_of(find_run("mobilenet_v2"), precision=recipe.precision, report=QUIET)
    embedder = replace(embedder, preprocess=start.preprocess)
    everything = np.ones(len(train_y), dtype=bool)
    for name, folder in far.items():
        files = list(walk([folder]))
        done = embed(embedder, files, report=QUIET)
        others = np.asarray(done.vectors.matrix[done.vectors.rows[done.rows]])
        for score, values in scores(everything, np.concatenate([test_x, others]), np.arange(len(names))).items():
            found[score][f"far {name}"] = unknown.auroc(values[: len(test_x)], values[len(test_x) :])
for score, each in found.items():
    near = np.mean([value for key, value in each.items() if key.startswith("near")])
    distant = np.mean([value for key, value in each.items() if key.startswith("far")])
    rows.append(
        {"score": score, "near": round(float(near), 3), "far": round(float(distant), 3)}
        | {k: round(v, 3) for k, v in each.items()}
    )
store("unknown", rows)
