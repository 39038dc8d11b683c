"""Expected calibration error on the test split of flowers, with and without the temperature, and what the report costs:
python benchmarks/calibration_error.py

Head and finetune with the default recipe. The error is over 15 bins (Guo et al. 2017); of 814 perfectly calibrated
predictions it would not be 0 either: "by chance" is its mean where labels are drawn from the predicted probabilities.
The report's time is that of `handlens report` beyond `handlens evaluate`, with and without heat maps.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import shared_images, store

import handlens
from handlens.data import walk
from handlens.evaluation.calibration import calibration, tempered
from handlens.training.run import open_run

flowers = shared_images("flowers")
rows: list[dict[str, Any]] = []
with tempfile.TemporaryDirectory() as scratch:
    for mode in ("head", "finetune"):
        run = handlens.train(flowers, out=Path(scratch) / mode, mode=mode, golden=False)
        temperature = open_run(run).model.temperature
        files = list(walk([flowers / "test"]))
        found = [(one.path, one.result) for one in handlens.predict(run, files, precision="fp32") if one.result]
        names = open_run(run).class_names
        labels = np.array([names.index(path.parent.name) for path, _ in found])
        after = np.stack([result.probabilities for _, result in found])
        before = tempered(after, 1 / temperature)
        rng = np.random.default_rng(0)
        drawn = [(after.cumsum(axis=1) > rng.random((len(after), 1))).argmax(axis=1) for _ in range(200)]
        seconds = {}
        for how, call in {
            "evaluate": lambda run=run: handlens.evaluate(run),
            "report without heat maps": lambda run=run: handlens.report(run, heat_maps=False),
            "report": lambda run=run: handlens.report(run),
        }.items():
            begin = time.perf_counter()
            page = Path(call()["report"])
            seconds[how] = time.perf_counter() - begin
        rows.append(
            {
                "mode": mode,
                "images": len(labels),
                "accuracy": round(float((after.argmax(axis=1) == labels).mean()), 4),
                "temperature": round(temperature, 3),
                "ece without": round(calibration(before, labels)["ece"], 4),
                "ece with": round(calibration(after, labels)["ece"], 4),
                "by chance": round(float(np.mean([calibration(after, one)["ece"] for one in drawn])), 4),
                "page MB": round(page.stat().st_size / 1e6, 2),
            }
            | {f"{how}, s": round(value, 1) for how, value in seconds.items()}
        )
        print(rows[-1], flush=True)
store("calibration_error", rows)
