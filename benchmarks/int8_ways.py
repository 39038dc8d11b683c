"""What changes of the weights give int8: python benchmarks/int8_ways.py [--runtimes A,B] [--models A,B]

Each runtime's first setting, with the file that its own quantizer makes: of the weights as they are, with biases
corrected (where its quantizer does not do that itself), equalized, and fine-tuned; images as in int8_subjects.py. It is
fine-tuned for 3 epochs on 384 other flowers and the other 78 images of coco_val128, without labels.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import shared_images, store, stored_before
from int8_subjects import Subject, calibration_files, imagenet_folder, subject
from torch import Tensor, nn

from handlens.data.decode import decode
from handlens.quantization.fine_tuning import fine_tuned
from handlens.quantization.rewritten import with_equal_channels
from handlens.quantization.sensitivity import normalized
from handlens.runtimes import RUNTIMES
from handlens.runtimes.int8 import EVERY, Scheme

parser = argparse.ArgumentParser()
parser.add_argument("--runtimes", default=",".join(name for name, runtime in RUNTIMES.items() if runtime.int8))
parser.add_argument("--models", default="mobilenet_v2,efficientnet_lite0")
asked = parser.parse_args()
EPOCHS = 3


def store_so_far() -> None:
    """With those of the newest result that are not measured again."""
    again = {(row["model"], row["runtime"]) for row in rows}
    others = [row for row in before if (row["model"], row["runtime"]) not in again]
    keys = list(dict.fromkeys(key for row in [*others, *rows] for key in row))
    store("int8_ways", [{key: row.get(key) for key in keys} for row in [*others, *rows]])


def ways(model: Subject, scheme: Scheme, images: Tensor) -> Iterator[tuple[str, nn.Module, bool, float | None]]:
    """Name, net, whether its biases are then corrected, and seconds of fine-tuning."""
    calibration = normalized(model.calibration, model.run.preprocess)
    if scheme.bias_correction == EVERY:
        yield "as they are", model.net, False, None
    yield "biases corrected", model.net, True, None
    yield "and equalized", with_equal_channels(model.net, calibration), True, None
    begin = time.perf_counter()
    net = fine_tuned(model.net, images, scheme, calibration=calibration, epochs=EPOCHS)
    yield "and fine-tuned", net, True, time.perf_counter() - begin


before, rows = stored_before("int8_ways"), []
with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    flowers = sorted((shared_images("flowers") / "train").rglob("*.jpg"))
    coco = sorted((shared_images("coco_val128") / "images").iterdir())
    calibrated = set(calibration_files())
    rest = [file for file in flowers if file not in calibrated]
    learned = [*rest[:: len(rest) // 384][:384], *(file for file in coco if file not in calibrated)]
    for name in asked.models.split(","):
        model = subject(name, imagenet_folder(folder))
        preprocess = model.run.preprocess
        images = normalized(np.stack([preprocess.pixels(decode(file)) for file in learned]), preprocess)
        for to in asked.runtimes.split(","):
            setting = RUNTIMES[to].int8[0]

            for way, net, correct_bias, seconds in ways(model, setting.scheme, images):
                file = model.int8(net, to, setting, folder / f"{name}-{to}-{way}", correct_bias=correct_bias)
                made = model.answers(to, file)
                rows.append(
                    {"model": name, "runtime": to, "setting": setting.name, "way": way}
                    | {"top1 fp32": model.accuracy(model.own), "top1 int8": model.accuracy(made)}
                    | {"same labels": model.equal(made), "fine-tuned s": seconds}
                )
                print(rows[-1], flush=True)
            store_so_far()
