"""Expected calibration error on flowers, with and without the temperature, and what the report costs:
python benchmarks/calibration_error.py [--splits N] [--modes head,finetune] [--keep FOLDER]

Head and finetune with the default recipe. The error is over 15 bins (Guo et al. 2017); of so few perfectly calibrated
predictions it would not be 0 either: "by chance" is its mean, and "95 % of chance" its 95th percentile, where labels
are drawn from the predicted probabilities. The report's time is that of `handlens report` beyond `handlens evaluate`,
with and without heat maps.

With --keep FOLDER, the predictions before the temperature are kept there, of the images that chose it and of the test
images; a run whose predictions are there is not trained again, so that another way to choose it is soon tried.

With --splits 5 every image is tested once: five runs, each on four fifths of all images, and the error of all their
predictions together, which chance moves less than that of the test split.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import shared_images, store, stored_before

import handlens
from handlens.data import walk
from handlens.evaluation.calibration import calibration, fit_temperature, tempered
from handlens.flow.held_out import held_out
from handlens.reporter import QUIET
from handlens.training.run import open_run

parser = argparse.ArgumentParser()
parser.add_argument("--splits", type=int, default=1, help="1: the test split of flowers")
parser.add_argument("--modes", default="head,finetune")
parser.add_argument("--keep", type=Path)
asked = parser.parse_args()
flowers = shared_images("flowers")


def split_folders(place: Path) -> Iterator[Path]:
    """Data sets of links to the same images, each with another part of every class for its test."""
    if asked.splits == 1:
        yield flowers
        return
    for number in range(asked.splits):
        for folder in sorted(flowers.glob("train/*")):
            images = sorted(
                [*folder.iterdir(), *(flowers / "test" / folder.name).iterdir()], key=lambda path: path.name
            )
            images = [images[place] for place in np.random.default_rng(0).permutation(len(images))]
            for index, image in enumerate(images):
                part = "test" if index % asked.splits == number else "train"
                link = place / f"split{number}" / part / folder.name / f"{image.parts[-3]}-{image.name}"
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(image)
        yield place / f"split{number}"


def predictions(run: Path, data: Path) -> dict[str, np.ndarray]:
    """Probabilities (N, K) without the temperature and labels (N,), of the images that chose it and of the test."""
    opened = open_run(run)
    held = held_out(opened, QUIET, what="predicting once more")
    found = [(one.path, one.result) for one in handlens.predict(run, list(walk([data / "test"])), precision="fp32")]
    labels = np.array([opened.class_names.index(path.parent.name) for path, result in found if result])
    after = np.stack([result.probabilities for _, result in found if result])
    return {
        "chosen_on": tempered(held.probabilities, 1 / opened.model.temperature),
        "labels": held.labels,
        "test": tempered(after, 1 / opened.model.temperature),
        "test_labels": labels,
    }


def page_costs(run: Path) -> dict[str, Any]:
    """Seconds of evaluate and of report, and the size of the page."""
    seconds = {}
    for how, call in {
        "evaluate": lambda: handlens.evaluate(run),
        "report without heat maps": lambda: handlens.report(run, heat_maps=False),
        "report": lambda: handlens.report(run),
    }.items():
        begin = time.perf_counter()
        page = Path(call()["report"])
        seconds[f"{how}, s"] = round(time.perf_counter() - begin, 1)
    return {"page MB": round(page.stat().st_size / 1e6, 2)} | seconds


rows: list[dict[str, Any]] = []
for mode in asked.modes.split(","):
    with tempfile.TemporaryDirectory() as scratch:
        parts, temperatures, costs = [], [], {}
        for data in split_folders(Path(scratch)):
            kept = asked.keep / f"{mode}-{data.name}.npz" if asked.keep else None
            if kept and kept.is_file():
                with np.load(kept) as arrays:
                    found = dict(arrays)
            else:
                run = handlens.train(data, out=Path(scratch) / f"run-{data.name}", mode=mode, golden=False)
                found = predictions(run, data)
                costs = page_costs(run) if asked.splits == 1 else {}
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.savez(kept, **found)
            temperature = fit_temperature(found["chosen_on"], found["labels"])  # as in training
            parts.append((tempered(found["test"], temperature), found["test"], found["test_labels"]))
            temperatures.append(round(temperature, 3))
            print(
                mode, data.name, temperatures[-1], round(calibration(parts[-1][0], parts[-1][2])["ece"], 4), flush=True
            )
    after, before, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    rng = np.random.default_rng(0)
    drawn = [(after.cumsum(axis=1) > rng.random((len(after), 1))).argmax(axis=1) for _ in range(200)]
    chance = [calibration(after, one)["ece"] for one in drawn]
    rows.append(
        {
            "mode": mode,
            "splits": asked.splits,
            "images": len(labels),
            "accuracy": round(float((after.argmax(axis=1) == labels).mean()), 4),
            "temperatures": " ".join(map(str, temperatures)),
            "ece without": round(calibration(before, labels)["ece"], 4),
            "ece with": round(calibration(after, labels)["ece"], 4),
            "by chance": round(float(np.mean(chance)), 4),
            "95 % of chance": round(float(np.quantile(chance, 0.95)), 4),
        }
        | costs
    )
    print(rows[-1], flush=True)
name = "calibration_error" if asked.splits == 1 else f"calibration_error_{asked.splits}_splits"
modes = {row["mode"] for row in rows}
store(name, [*(row for row in stored_before(name) if row["mode"] not in modes), *rows])
