"""None of these, on flowers in mode head: python benchmarks/unknown.py

Near: each flower in turn is left out of the data that a head is trained on, and its images are the unknown ones.
Far: objects (coco_val128), streets (camvid) and drawn breads (bakery), for a head on all five. Known images are those
of the test split. AUROC is of the p-values of `predict --unknown`, as a user gets them; "left out in the run" is what
the run said of its score before, and "rejected" are the shares of known and unknown images at --unknown 0.05.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import shared_images, store

import handlens
from handlens.data import walk
from handlens.evaluation.unknown import auroc
from handlens.flow.choose_recognition import recognition_of
from handlens.reporter import QUIET
from handlens.training.run import open_run

SHARE = 0.05


def p_of(run: Path, folders: list[Path]) -> np.ndarray:
    """(N,) 1 - p of the images in these folders."""
    files = list(walk(folders))
    return np.array([1 - one.result.p for one in handlens.predict(run, files, unknown=SHARE) if one.result is not None])


def row(what: str, kind: str, run: Path, known: np.ndarray, unknown: np.ndarray) -> dict[str, Any]:
    recognition = recognition_of(open_run(run), QUIET)
    return {
        "unknown": what,
        "kind": kind,
        "score": recognition.score,
        "left out in the run": round(recognition.auroc[recognition.score], 3),
        "known": len(known),
        "images": len(unknown),
        "auroc": round(auroc(known, unknown), 3),
        "known rejected": round(float((known >= 1 - SHARE).mean()), 3),
        "unknown rejected": round(float((unknown >= 1 - SHARE).mean()), 3),
    }


flowers = shared_images("flowers")
names = sorted(path.name for path in (flowers / "train").iterdir())
rows: list[dict[str, Any]] = []
with tempfile.TemporaryDirectory() as scratch:
    place = Path(scratch)
    for left_out in (*names, None):
        data = place / f"without-{left_out}"
        for part in ("train", "test"):
            for name in names:
                if name != left_out:
                    shutil.copytree(flowers / part / name, data / part / name)
        run = handlens.train(data, out=place / f"run-{left_out}", mode="head", golden=False)
        known = p_of(run, [data / "test"])
        if left_out is not None:
            others = p_of(run, [flowers / part / left_out for part in ("train", "test")])
            rows.append(row(left_out, "near", run, known, others))
            print(rows[-1], flush=True)
    bakery = handlens.sample("bakery", place / "bakery", per_class=20)
    for name, folder in {
        "coco_val128": shared_images("coco_val128") / "images",
        "camvid": shared_images("camvid") / "images",
        "bakery": bakery,
    }.items():
        rows.append(row(name, "far", run, known, p_of(run, [folder])))
    measured = recognition_of(open_run(run), QUIET).auroc  # of each score, where the run leaves out its own classes
    rows += [{"unknown": name, "kind": "in the run", "auroc": round(value, 3)} for name, value in measured.items()]
for kind in ("near", "far"):
    each = [row for row in rows if row["kind"] == kind]
    rows.append({"unknown": "mean", "kind": kind, "auroc": round(float(np.mean([row["auroc"] for row in each])), 3)})
store("unknown", rows)
