"""Every classifier learns digits from scratch, through the command: python benchmarks/learning.py [NET ...]

At least: the threshold in lessons.py for each; lenet5 above 98.5 % on a stratified random fifth, within a minute, for
every split and seed tried.
"""

import datetime
import json
import sys
import tempfile
from pathlib import Path

import yaml
from common import handlens, store, stored_before
from lessons import LESSONS, recipe_of, write_digits

SEEDS = {"lenet5": range(5)}  # of the fifth that is tested and of the weights at the start
NOTE = "Seconds are of the whole command; whatever else the machine does lengthens them."


def measured(name: str, seed: int, scratch: Path) -> dict:
    data, run, recipe = scratch / "digits", scratch / "run", scratch / "recipe.yaml"
    write_digits(data, seed=seed)
    recipe.write_text(yaml.safe_dump(recipe_of(name, seed=seed)))
    seconds, _ = handlens("train", data, "--recipe", recipe, "--out", run, "--no-golden")
    metrics = json.loads(handlens("evaluate", run, "--json")[1])["metrics"]
    lesson = LESSONS[name]
    return {
        "net": name,
        "measured": datetime.date.today().isoformat(),
        "seed": seed,
        "size": lesson.size,
        "epochs": lesson.epochs,
        "seconds": seconds,
        "right": metrics["correct"],
        "of": metrics["count"],
        "top1": metrics["top1"],
        "at least": lesson.at_least,
        "reached": metrics["top1"] >= lesson.at_least,
    }


nets = sys.argv[1:] or list(LESSONS)
rows = [row for row in stored_before("learning") if row["net"] not in nets]  # of nets that are not asked for
for net in nets:
    for start in SEEDS.get(net, (0,)):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(net, start, Path(folder)))
            store("learning", rows, notes=[NOTE])
