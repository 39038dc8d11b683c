"""Fraction of the training boxes of bccd that match no anchor: python benchmarks/anchor_reach.py

At most 5 % of any class with the fitted anchors, at the input size that `train` chooses. Also: the published anchors.
"""

from common import shared_images, store

from handlens.data import open_dataset
from handlens.tasks import TASKS
from handlens.tasks.detect.fit import fit_detector
from handlens.training.recipe import Recipe

dataset = open_dataset(shared_images("bccd"))
rows = []
for anchors in ("fitted", "paper"):
    fit = fit_detector(Recipe(anchors=anchors).settled("finetune", TASKS["detect"].defaults), dataset)
    rows.append(
        {
            "anchors": anchors,
            "input": f"{fit.width} x {fit.height}",
            "finest_stride": fit.options["first_stride"],
            **{f"{name}_unreached": share for name, share in fit.unreached.items()},
        }
    )
store("anchor_reach", rows)
