"""int8 exports of pretrained classifiers, each runtime: python benchmarks/int8.py [--runtimes A,B] [--models A,B]

On the 500 images of imagenet_val500 as they are stored (short side 224), calibrated on 50 flowers and 50 images of
coco_val128. At least: mobilenet_v2 67.6 % top-1 and 89 % of PyTorch's labels, 95 % in the best runtime;
efficientnet_lite0 69.0 % and 94 %; at most 0.30 of the size of float32. Processor time of one image on one thread, the
10th percentile of runs that take turns.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import store, stored_before
from int8_subjects import calibration_files, imagenet_folder

import handlens
from handlens.errors import InputError, ParityError
from handlens.flow.runs import find_run
from handlens.runtimes import RUNTIMES

parser = argparse.ArgumentParser()
parser.add_argument("--runtimes", default=",".join(name for name, runtime in RUNTIMES.items() if runtime.int8))
parser.add_argument("--models", default="mobilenet_v2,efficientnet_lite0")
parser.add_argument("--keep-float", type=int, default=0, help="layers that hurt most stay in float")
asked = parser.parse_args()
TURNS = 100


def processor_times(files: list[Path], pixels: np.ndarray) -> list[float]:
    """Milliseconds of each file, one image, one thread."""
    models = [next(r for r in RUNTIMES.values() if r.suffix == file.suffix).open(file, threads=1) for file in files]
    times: list[list[float]] = [[] for _ in files]
    for _ in range(TURNS):
        for model, taken in zip(models, times, strict=True):
            begin = time.process_time()
            model.run(pixels)
            taken.append(time.process_time() - begin)
    return [1000 * float(np.percentile(taken[5:], 10)) for taken in times]


rows = []
with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    images = folder / "calibration"
    images.mkdir()
    for number, file in enumerate(calibration_files()):
        shutil.copyfile(file, images / f"{number:03}.jpg")
    data = imagenet_folder(folder)
    for name in asked.models.split(","):
        found = find_run(name)
        run = replace(found, model=replace(found.model, preprocess=replace(found.preprocess, short_side=224)))
        pixels = np.zeros((1, run.preprocess.height, run.preprocess.width, 3), dtype=np.uint8)
        for to in asked.runtimes.split(","):
            runtime = RUNTIMES[to]
            row = {"model": name, "runtime": to, "layers in float": asked.keep_float}
            files = [folder / f"{name}-{kind}{runtime.suffix}" for kind in ("fp32", "int8")]
            options = {"data": data, "images": "all", "report": handlens.Reporter(say=print)}
            try:
                _, whole = handlens.export(run, to=to, out=files[0], **options)
                quantized = {"int8": True, "calibrate": images, "keep_float": asked.keep_float}
                _, parity = handlens.export(run, to=to, out=files[1], **quantized, **options)
                times = processor_times(files, pixels)
            except ParityError as error:
                parity, times = error.parity, None  # nobody is given this file
            except InputError as error:
                rows.append(row | {"setting": str(error)})
                continue
            first = parity.rows[0]
            row |= {
                "setting": next((entry["setting"] for entry in parity.tried if entry["chosen"]), None),
                "top1 fp32": first.reference_score,
                "top1 int8": first.score,
                "same labels": first.equal,
                "size": first.size_mb / whole.rows[0].size_mb,
                "ms fp32": times and times[0],
                "ms int8": times and times[1],
                "faster": times and times[0] / times[1],
            }
            rows.append(row)
            print(row, [(entry["setting"], entry["score"], entry["equal"]) for entry in parity.tried], flush=True)
others = [
    row
    for row in stored_before("int8")
    if (row["model"], row["runtime"], row.get("layers in float") or 0)
    not in {(new["model"], new["runtime"], asked.keep_float) for new in rows}
]
keys = list(dict.fromkeys(key for row in [*others, *rows] for key in row))
store("int8", [{key: row.get(key) for key in keys} for row in [*others, *rows]])
