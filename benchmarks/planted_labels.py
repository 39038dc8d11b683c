"""How many planted label errors `check --labels` finds: python benchmarks/planted_labels.py

In the flowers that are to be trained on, 5 % of the labels are replaced by another class, drawn evenly, for five seeds.
The ranking of `check --labels` is set beside cleanlab's (https://github.com/cleanlab/cleanlab, if it is installed:
pip install cleanlab) on the same out-of-fold probabilities. Counted are the planted ones among as many first places as
were planted; real label errors, of which flowers has some, count as wrong.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from common import shared_images, store

from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.reporter import QUIET
from handlens.tasks.classify.head import FrozenClasses
from handlens.tasks.classify.suspects import label_quality
from handlens.tasks.heads import FrozenBackbone, fit_frozen_head
from handlens.tasks.image_level import start_image_model
from handlens.training.recipe_file import make_recipe

SHARE, SEEDS = 0.05, 5

audited = audit(open_dataset(shared_images("flowers")))
usable = audited.usable()
records = [record for record in usable.records if record.split == "train"]
names = usable.class_names
recipe = make_recipe({"mode": "head"})
start = start_image_model(recipe, len(names), QUIET)
backbone = FrozenBackbone(start.net, start.preprocess, audited, recipe, QUIET)
rows: list[dict[str, Any]] = []
for seed in range(SEEDS):
    rng = np.random.default_rng(seed)
    planted = rng.choice(len(records), round(SHARE * len(records)), replace=False)
    shift = rng.integers(1, len(names), len(planted))
    changed = list(records)
    for place, by in zip(planted, shift, strict=True):
        changed[place] = replace(records[place], label=(records[place].label + int(by)) % len(names))
    head = fit_frozen_head(FrozenClasses(), backbone, changed, names)
    labels = np.array([record.label for record in changed])
    rankings = {"handlens": label_quality(head.out_of_fold, labels)}
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        print("cleanlab is not installed")
    else:
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
            rankings[f"cleanlab {method}"] = get_label_quality_scores(labels, head.out_of_fold, method=method)
    for name, quality in rankings.items():
        first = np.argsort(quality, kind="stable")
        rows.append(
            {
                "seed": seed,
                "ranking": name,
                "planted": len(planted),
                "found among as many": round(float(np.isin(first[: len(planted)], planted).mean()), 3),
                "precision of the first 100": round(float(np.isin(first[:100], planted).mean()), 3),
            }
        )
for name in dict.fromkeys(row["ranking"] for row in rows):
    each = [row for row in rows if row["ranking"] == name]
    rows.append(
        {"seed": "mean", "ranking": name, "planted": each[0]["planted"]}
        | {key: round(float(np.mean([row[key] for row in each])), 3) for key in list(each[0])[3:]}
    )
store("planted_labels", rows)
