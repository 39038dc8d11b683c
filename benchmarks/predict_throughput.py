"""JPEGs on disk to a CSV, images per second: python benchmarks/predict_throughput.py

At least 85 % of min(decode alone, engine alone) of the same run; and 6 x (bf16) or 3.5 x (fp32) the faster of two
plain eager loops under inference_mode: one by one, and a DataLoader of batch 32 with 2 workers.
"""

import copy
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision
from common import interleaved, shared_images, store
from PIL import Image
from torchvision import transforms as T

import handlens
from handlens.flow.predict import writing
from handlens.preprocess import Preprocess
from handlens.runtimes.openvino.engine import OpenVINOEngine
from handlens.runtimes.stream import load_pixels
from handlens.training.recipe_file import make_recipe
from handlens.training.run import Run

folder = shared_images("flowers") / "test"
files = sorted(folder.glob("*/*"))
some = files[::4]
EMULATED = 64  # images for the bf16 loop: a processor without bf16 takes ten times as long
random = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)


class Folder(torch.utils.data.Dataset):
    def __init__(self, transform: T.Compose, count: int = len(some)) -> None:
        self.transform, self.count = transform, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(some[index]).convert("RGB"))


def rate(work, count: int) -> float:
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


@torch.inference_mode()
def one_by_one(net: torch.nn.Module, data: Folder) -> None:
    for index in range(len(data)):
        net(data[index][None]).softmax(1)


@torch.inference_mode()
def batches(net: torch.nn.Module, data: Folder) -> None:
    for images in torch.utils.data.DataLoader(data, batch_size=32, num_workers=2):
        net(images).softmax(1)


@torch.inference_mode()
def batches_bf16(net: torch.nn.Module, data: Folder) -> None:
    fast = copy.deepcopy(net).to(memory_format=torch.channels_last)
    for images in torch.utils.data.DataLoader(data, batch_size=32, num_workers=2):
        with torch.autocast("cpu", torch.bfloat16):
            fast(images.contiguous(memory_format=torch.channels_last)).softmax(1)


def decode_alone(preprocess: Preprocess) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda path: load_pixels(path, preprocess), files):
            pass


def engine_alone(engine: OpenVINOEngine) -> None:
    for _ in engine.stream((i, random) for i in range(len(files))):
        pass


def predict(run: Run, precision: str) -> None:
    count = 0
    with tempfile.TemporaryDirectory() as scratch, writing(run, csv=Path(scratch) / "a.csv") as write:
        for prediction in handlens.predict(run, [folder], precision=precision):
            write(prediction)
            count += 1
    assert count == len(files)


def measured(name: str, run: Run) -> list[dict]:
    preprocess = run.preprocess
    net = torchvision.models.mobilenet_v2(num_classes=len(run.class_names)).eval()
    steps = [T.Resize(preprocess.short_side), T.CenterCrop(preprocess.height), T.ToTensor()]
    data = Folder(T.Compose([*steps, T.Normalize(preprocess.mean, preprocess.std)]))
    few = Folder(data.transform, EMULATED)
    engines = {precision: OpenVINOEngine(run.engine, precision=precision) for precision in ("fp32", "auto")}
    rivals = {
        "plain, one by one": lambda: rate(lambda: one_by_one(net, data), len(data)),
        "plain, DataLoader 32, 2 workers": lambda: rate(lambda: batches(net, data), len(data)),
        "plain, channels_last bf16": lambda: rate(lambda: batches_bf16(net, few), len(few)),
        "decode alone": lambda: rate(lambda: decode_alone(preprocess), len(files)),
        "engine alone, fp32": lambda: rate(lambda: engine_alone(engines["fp32"]), len(files)),
        "predict, fp32": lambda: rate(lambda: predict(run, "fp32"), len(files)),
    }
    native = engines["auto"].precision
    if native != "f32":
        rivals[f"engine alone, {native}"] = lambda: rate(lambda: engine_alone(engines["auto"]), len(files))
        rivals[f"predict, {native}"] = lambda: rate(lambda: predict(run, "auto"), len(files))
    rates = interleaved(rivals, rounds=5)
    plain = max(rates["plain, one by one"], rates["plain, DataLoader 32, 2 workers"])
    limit = min(rates["decode alone"], rates["engine alone, fp32"])
    return [
        {
            "run": name,
            "what": what,
            "images_per_second": value,
            "times_the_faster_plain_loop": value / plain,
            "of_the_limit": value / limit,
        }
        for what, value in rates.items()
    ]


with tempfile.TemporaryDirectory() as scratch:
    recipe = make_recipe({"mode": "head"})
    trained = handlens.train(folder.parent, out=Path(scratch) / "run", recipe=recipe, golden=False)
    rows = measured("trained on flowers: 224 of 224, 5 classes", handlens.find_run(trained))
    rows += measured("mobilenet_v2: 224 of 256, 1000 classes", handlens.find_run("mobilenet_v2"))
store(
    "predict_throughput",
    rows,
    notes=[f"Median image: {statistics.median(f.stat().st_size for f in files) / 1024:.0f} KB."],
)
