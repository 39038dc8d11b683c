"""The predicted drop of int8 beside what came: python benchmarks/int8_prediction.py [--runtimes A,B] [--models A,B]

Every setting of every runtime, for the classifiers whose published weights can be fetched, on imagenet_val500 as it is
stored (short side 224), calibrated on 50 flowers and 50 images of coco_val128. Predicted from every other image, with
no labels, by the simulation in PyTorch; measured on all 500 with the file that the runtime's own quantizer made. At
least 9 of 10 pairs of model and runtime must be right about "within 1 point or not".

The accuracy of 500 images is itself uncertain by about a point where a tenth of the labels change, so what came stands
twice: counted, and as the expected drop of the labels that the file gives, by the float model's probabilities on all
500, which is the less noisy of the two.

--files FOLDER keeps the files and what they answer, and uses those that are there.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import shared_images, store, stored_before

from handlens.data import open_dataset
from handlens.data.decode import decode
from handlens.flow.runs import build_from, find_run
from handlens.quantization.observe import observe
from handlens.quantization.prediction import predict_drop
from handlens.quantization.sensitivity import normalized, unfold
from handlens.quantization.simulation import Simulation
from handlens.runtimes import RUNTIMES
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.source import Source
from handlens.tasks import TASKS
from handlens.training.model_info import metadata
from handlens.training.optim import keep_freed_memory

MOST = 0.01  # of accuracy
PREDICTED_FROM = 250  # images

parser = argparse.ArgumentParser()
parser.add_argument("--runtimes", default=",".join(name for name, runtime in RUNTIMES.items() if runtime.int8))
parser.add_argument("--models", default="mobilenet_v2,efficientnet_lite0")
parser.add_argument("--files", type=Path)
asked = parser.parse_args()


def answers(run: Any, source: Source, to: str, place: int, calibration: np.ndarray, pixels: np.ndarray, folder: Path):
    """(N, K) probabilities of the int8 file of one setting."""
    kept = folder / f"{run.folder.name}-{to}-{place}.npy"
    if kept.exists():
        return np.load(kept)
    runtime = RUNTIMES[to]
    whole = folder / f"{run.folder.name}-{to}" / f"model{runtime.suffix}"
    if not whole.exists():
        whole.parent.mkdir(exist_ok=True)
        runtime.convert(source, whole)
    made = folder / f"{run.folder.name}-{to}-{place}" / f"model{runtime.suffix}"
    made.parent.mkdir(exist_ok=True)
    runtime.quantize(source, whole, made, images=calibration, setting=runtime.int8[place])
    model = runtime.open(made, threads=1)
    np.save(kept, np.concatenate([model.run(image[None])["probabilities"] for image in pixels]))
    return np.load(kept)


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
    data = folder / "imagenet"
    if not data.exists():
        shutil.copytree(shared_images("imagenet_val500"), data)
        (data / "handlens.yaml").write_text("csv: {label: class_index}\n", encoding="utf-8")
    dataset = open_dataset(data)
    labels = np.array([int(dataset.class_names[record.label]) for record in dataset.records])
    flowers = sorted((shared_images("flowers") / "train").rglob("*.jpg"))
    coco = sorted((shared_images("coco_val128") / "images").iterdir())
    for name in asked.models.split(","):
        found = find_run(name)
        run = replace(found, model=replace(found.model, preprocess=replace(found.preprocess, short_side=224)))
        net, task, preprocess = build_from(run), TASKS[run.task], run.preprocess
        pixels = np.stack([preprocess.pixels(decode(record.path)) for record in dataset.records])
        chosen = [*flowers[:: len(flowers) // 50][:50], *coco[:50]]
        calibration = np.stack([preprocess.pixels(decode(path)) for path in chosen])
        graph = DeployGraph(net, preprocess, last_step=task.last_step)
        own = np.concatenate([graph.arrays(part, task.outputs)["probabilities"] for part in np.array_split(pixels, 32)])
        said = metadata(
            task=task.name,
            architecture=run.model.architecture,
            class_names=run.class_names,
            preprocess=preprocess,
            chosen=run.model.chosen,
        )
        source = Source(graph, preprocess, task.outputs, said)
        inputs = normalized(calibration, preprocess)
        unfolded = unfold(net, inputs)
        observed = observe(unfolded, inputs)
        few = slice(0, None, len(pixels) // PREDICTED_FROM)
        for to in asked.runtimes.split(","):
            for place, setting in enumerate(RUNTIMES[to].int8):
                made = answers(run, source, to, place, calibration, pixels, folder)
                simulated = Simulation(unfolded, observed, setting.scheme)(normalized(pixels[few], preprocess))
                predicted = predict_drop(own[few], simulated.softmax(1).numpy())
                came = predict_drop(own, made, labels=labels)
                row = {
                    "model": name,
                    "runtime": to,
                    "setting": setting.name,
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
                rows.append(row)
            store_so_far(rows)  # it takes long
