"""How far the prediction of int8's drop hangs on the last bits: python benchmarks/int8_noise.py

MobileNetV2 with ImageNet weights, every other image of imagenet_val500, the setting "extremes". Ranges of activations
are made wider or narrower by up to 0.5 %, with the instructions of this processor and with those of AVX2 alone: the
same quantization for all that anybody knows, and other roundings.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from common import store
from int8_subjects import imagenet_folder, subject

from handlens.quantization.observe import observe
from handlens.quantization.prediction import predict_drop
from handlens.quantization.sensitivity import normalized, unfold
from handlens.quantization.simulation import Simulation
from handlens.runtimes.int8 import EXTREMES

FACTORS = (1.0, 1.0005, 1.002, 0.998, 1.005)
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

parser = argparse.ArgumentParser()
parser.add_argument("--here", action="store_true", help="print the rows of this process alone")
asked = parser.parse_args()


def measured() -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as scratch:
        model = subject("mobilenet_v2", imagenet_folder(Path(scratch)))
    few = slice(0, None, 2)
    inputs = normalized(model.calibration, model.run.preprocess)
    unfolded = unfold(model.net, inputs)
    observed = observe(unfolded, inputs)
    images = normalized(model.pixels[few], model.run.preprocess)
    rows = []
    for factor in FACTORS:
        wider = replace(observed, extremes={name: factor * ends for name, ends in observed.extremes.items()})
        simulated = Simulation(unfolded, wider, EXTREMES.scheme)(images).softmax(1).numpy()
        found = predict_drop(model.own[few], simulated)
        rows.append({"ranges": factor, "labels kept": 100 * found.equal, "predicted": 100 * found.drop})
    return rows


if asked.here:
    print(json.dumps(measured()))
    raise SystemExit
rows = []
for name, environment in {"this processor": {}, "AVX2": AVX2}.items():
    command = [sys.executable, __file__, "--here"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    rows += [{"instructions": name} | row for row in json.loads(done.stdout.splitlines()[-1])]
store("int8_noise", rows)
