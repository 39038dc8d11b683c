"""The predicted drop of int8 beside what came: python benchmarks/int8_prediction.py [--runtimes A,B] [--models A,B]
[--runs FOLDER,FOLDER]

Every setting of every runtime, for the classifiers whose published weights can be fetched, on imagenet_val500 as it is
stored (short side 224), calibrated on 50 flowers and 50 images of coco_val128. Predicted from every other image, with
no labels, by the simulation in PyTorch; measured on all 500 with the file that the runtime's own quantizer made. Of
trained runs: what `handlens cost RUN --int8` says from validation images, and the first setting of each runtime on the
test images. At least 9 of 10 pairs of model and runtime must be right about "within 1 point or not".

The accuracy of 500 images is itself uncertain by about a point where a tenth of the labels change, so what came stands
twice: counted, and as the expected drop of the labels that the file gives, by the float model's probabilities on all
500, which is the less noisy of the two.

--files FOLDER keeps the files and what they answer, and uses those that are there.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import store, stored_before
from int8_subjects import Subject, imagenet_folder, subject, subject_of_run

from handlens.flow.survival import survival
from handlens.quantization.observe import observe
from handlens.quantization.prediction import Prediction, predict_drop
from handlens.quantization.sensitivity import normalized, unfold
from handlens.quantization.simulation import Simulation
from handlens.runtimes import RUNTIMES
from handlens.training.optim import keep_freed_memory

MOST = 0.01  # of accuracy
PREDICTED_FROM = 250  # images

parser = argparse.ArgumentParser()
parser.add_argument("--runtimes", default=",".join(name for name, runtime in RUNTIMES.items() if runtime.int8))
parser.add_argument("--models", default="mobilenet_v2,efficientnet_lite0")
parser.add_argument("--runs", default="", help="folders of trained classifiers")
parser.add_argument("--files", type=Path)
asked = parser.parse_args()


def answers(model: Subject, to: str, place: int, folder: Path) -> np.ndarray:
    """(N, K) probabilities of the int8 file of one setting."""
    stem = f"{model.name}-{to}-{place}".replace(" ", "_")
    kept = folder / f"{stem}.npy"
    if not kept.exists():
        file = model.int8(model.net, to, RUNTIMES[to].int8[place], folder / stem)
        np.save(kept, model.answers(to, file))
    found: np.ndarray = np.load(kept)
    return found


def row_of(model: Subject, to: str, setting: str, predicted: Prediction, came: Prediction) -> dict[str, Any]:
    return {
        "model": model.name,
        "runtime": to,
        "setting": setting,
        "predicted": 100 * predicted.drop,
        "from": 100 * predicted.interval[0],
        "to": 100 * predicted.interval[1],
        "came": 100 * came.drop,
        "counted": 100 * came.counted,
        "labels kept, predicted": 100 * predicted.equal,
        "labels kept": 100 * came.equal,
        "right": predicted.within(MOST) == came.within(MOST),
        "right, counted": predicted.within(MOST) == (came.counted <= MOST),
    }


def store_so_far(made: list[dict[str, Any]]) -> None:
    """With those of the newest result that are not measured again."""
    again = {(row["model"], row["runtime"], row["setting"]) for row in made}
    rows = [row for row in before if (row["model"], row["runtime"], row["setting"]) not in again] + made
    keys = list(dict.fromkeys(key for row in rows for key in row))
    rows = [{key: row.get(key) for key in keys} for row in rows]
    right, counted = (sum(row[key] for row in rows) for key in ("right", "right, counted"))
    note = f"right about within 1 point or not: {right} of {len(rows)}; of the counted drop: {counted} of {len(rows)}"
    store("int8_prediction", rows, notes=[note])


keep_freed_memory()
before = stored_before("int8_prediction")
rows: list[dict[str, Any]] = []
with tempfile.TemporaryDirectory() as scratch:
    folder = asked.files or Path(scratch)
    folder.mkdir(exist_ok=True)
    for name in filter(None, asked.models.split(",")):
        model = subject(name, imagenet_folder(folder))
        pixels, preprocess = model.pixels, model.run.preprocess
        inputs = normalized(model.calibration, preprocess)
        unfolded = unfold(model.net, inputs)
        observed = observe(unfolded, inputs)
        few = slice(0, None, len(pixels) // PREDICTED_FROM)
        for to in asked.runtimes.split(","):
            for place, setting in enumerate(RUNTIMES[to].int8):
                made = answers(model, to, place, folder)
                simulated = Simulation(unfolded, observed, setting.scheme)(normalized(pixels[few], preprocess))
                predicted = predict_drop(model.own[few], simulated.softmax(1).numpy())
                came = predict_drop(model.own, made, labels=model.labels)
                rows.append(row_of(model, to, setting.name, predicted, came))
            store_so_far(rows)  # it takes long
    for run in filter(None, asked.runs.split(",")):
        model = subject_of_run(Path(run))
        said = {(row["runtime"], row["setting"]): row for row in survival(run)}
        for to in asked.runtimes.split(","):
            setting = RUNTIMES[to].int8[0]
            row = said[to, setting.name]
            predicted = Prediction(
                images=row["images"],
                equal=1 - row["changed"],
                drop=row["drop"],
                interval=row["interval"],
                counted=row["counted"],
            )
            came = predict_drop(model.own, answers(model, to, 0, folder), labels=model.labels)
            rows.append(row_of(model, to, setting.name, predicted, came))
            store_so_far(rows)
