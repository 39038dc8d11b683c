"""JPEGs on disk to a CSV, pictures per second: python benchmarks/predict_throughput.py

At least 85 % of min(decode alone, engine alone) of the same run; and 6 x (bf16) or 3.5 x (fp32) the faster of two
plain eager loops under inference_mode: one by one, and a DataLoader of batch 32 with 2 workers.
"""

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision
from common import interleaved, pictures, store
from PIL import Image
from torchvision import transforms as T

from handlens import flow
from handlens.deploy.engines import OpenVINOEngine
from handlens.deploy.stream import load_pixels
from handlens.flow.sheets import PredictionWriter

folder = pictures("flowers") / "test"
files = sorted(folder.glob("*/*"))
some = files[::4]
EMULATED = 64  # pictures for the bf16 loop: a processor without bf16 takes ten times as long
run = flow.find_run("mobilenet_v2")
preprocess = run.preprocess
net = torchvision.models.mobilenet_v2().eval()
transform = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), T.Normalize(preprocess.mean, preprocess.std)])


class Folder(torch.utils.data.Dataset):
    def __init__(self, count: int = len(some)) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return transform(Image.open(some[index]).convert("RGB"))


def rate(work, count: int) -> float:
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


@torch.inference_mode()
def one_by_one() -> None:
    for index in range(len(some)):
        net(Folder()[index][None]).softmax(1)


@torch.inference_mode()
def batches() -> None:
    for images in torch.utils.data.DataLoader(Folder(), batch_size=32, num_workers=2):
        net(images).softmax(1)


@torch.inference_mode()
def batches_bf16() -> None:
    fast = torchvision.models.mobilenet_v2().eval().to(memory_format=torch.channels_last)
    for images in torch.utils.data.DataLoader(Folder(EMULATED), batch_size=32, num_workers=2):
        with torch.autocast("cpu", torch.bfloat16):
            fast(images.contiguous(memory_format=torch.channels_last)).softmax(1)


def decode_alone() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda path: load_pixels(path, preprocess), files):
            pass


def engine_alone(precision: str) -> None:
    engine = engines[precision]
    for _ in engine.stream((i, random) for i in range(len(files))):
        pass


def predict(precision: str) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        PredictionWriter(
            csv=Path(scratch) / "a.csv", as_json=False, pictures=None, sheet=None, top=1, print_line=print
        ) as writer,
    ):
        for prediction in flow.predict(run, [folder], precision=precision):
            writer.write(prediction)
        assert writer.count == len(files)


random = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
engines = {precision: OpenVINOEngine(run.engine, precision=precision) for precision in ("fp32", "auto")}
native = engines["auto"].precision
rivals = {
    "plain, one by one": lambda: rate(one_by_one, len(some)),
    "plain, DataLoader 32, 2 workers": lambda: rate(batches, len(some)),
    "plain, channels_last bf16": lambda: rate(batches_bf16, EMULATED),
    "decode alone": lambda: rate(decode_alone, len(files)),
    "engine alone, fp32": lambda: rate(lambda: engine_alone("fp32"), len(files)),
    "predict, fp32": lambda: rate(lambda: predict("fp32"), len(files)),
}
if native != "f32":
    rivals[f"engine alone, {native}"] = lambda: rate(lambda: engine_alone("auto"), len(files))
    rivals[f"predict, {native}"] = lambda: rate(lambda: predict("auto"), len(files))
rates = interleaved(rivals, rounds=3)
plain = max(rates["plain, one by one"], rates["plain, DataLoader 32, 2 workers"])
limit = min(rates["decode alone"], rates["engine alone, fp32"])
store(
    "predict_throughput",
    [
        {
            "what": name,
            "pictures_per_second": value,
            "times_the_faster_plain_loop": value / plain,
            "of_the_limit": value / limit,
        }
        for name, value in rates.items()
    ],
    notes=[
        f"The processor's own precision in OpenVINO: {native}.",
        f"Median picture: {statistics.median(f.stat().st_size for f in files) / 1024:.0f} KB.",
    ],
)
