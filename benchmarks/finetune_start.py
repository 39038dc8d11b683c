"""Fine-tuning on few images compared with the head it starts from: python benchmarks/finetune_start.py

Three small data sets (60 flowers of each class; the bakery; 500 photographs as animal or thing), a third of each for
validation, two seeds. Per recipe: accuracy of the head, of the worst and of the last epoch, and how often the last is
worse than the head. The default recipe lowers the learning rate for few steps; it is compared with the full rate.
More candidates: python benchmarks/finetune_start.py 'warm={"warmup": 0.4}'
"""

import csv
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean

from common import shared_images, store

import handlens
from handlens.training.run import read_metrics

CANDIDATES = {
    "default": {},
    "full rate": {"learning_rate": 2e-4},
    **{name: json.loads(recipe) for name, _, recipe in (argument.partition("=") for argument in sys.argv[1:])},
}
SEEDS = (0, 1)
PER_CLASS = 60
FIRST_THING = 398  # ImageNet's classes are sorted by WordNet: animals come first


def link_flowers(folder: Path) -> None:
    for kind in sorted((shared_images("flowers") / "train").iterdir()):
        (folder / kind.name).mkdir(parents=True)
        for image in sorted(kind.iterdir())[:PER_CLASS]:
            (folder / kind.name / image.name).symlink_to(image)


def link_animals(folder: Path) -> None:
    source = shared_images("imagenet_val500")
    with (source / "labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kind = "animal" if int(row["class_index"]) < FIRST_THING else "thing"
            (folder / kind).mkdir(parents=True, exist_ok=True)
            image = source / "images" / row["file"]
            (folder / kind / image.name).symlink_to(image)


with tempfile.TemporaryDirectory() as scratch:
    sets = {name: Path(scratch) / name for name in ("flowers", "bakery", "animals")}
    link_flowers(sets["flowers"])
    link_animals(sets["animals"])
    handlens.sample("bakery", sets["bakery"], per_class=30, test_per_class=1)
    rows = []
    for data, folder in sets.items():
        for candidate, recipe in CANDIDATES.items():
            curves = []
            for seed in SEEDS:
                run = Path(scratch) / f"{data}-{candidate}-{seed}"
                wanted = {"mode": "finetune", "seed": seed, "validation": 0.34, **recipe}
                handlens.train(folder, out=run, recipe=wanted)
                curves.append([float(row["validation_top1"]) for row in read_metrics(run)])
            rows.append(
                {
                    "data": data,
                    "recipe": candidate,
                    "head": mean(curve[0] for curve in curves),
                    "lowest": mean(min(curve) for curve in curves),
                    "last": mean(curve[-1] for curve in curves),
                    "worse_than_head": sum(curve[-1] < curve[0] for curve in curves),
                    "curves": curves,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
store("finetune_start", rows, notes=[f"Candidates: {json.dumps(CANDIDATES)}"])
