"""`handlens bench` with torchvision's and timm's model of the same name: python benchmarks/bench_rivals.py [NAME]

Eager and with fresh weights, which take as long as trained ones; each with our Preprocess's arithmetic before it and a
softmax after it, as DeployGraph has them. timm is left out where it is not installed or has no such model. The options
--engines, --threads, --batch and --rounds are those of `handlens bench`.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from common import store

import handlens
from handlens.flow.bench import bench
from handlens.flow.runs import find_run
from handlens.runtimes.graph import Scale
from handlens.timing import pytorch
from handlens.timing.contender import Contender

TIMM = {"mobilenet_v2": "mobilenetv2_100", "efficientnet_lite0": "tf_efficientnet_lite0"}

parser = argparse.ArgumentParser()
parser.add_argument("name", nargs="?", default="mobilenet_v2")
parser.add_argument("--engines", default="openvino,pytorch")
parser.add_argument("--threads", default="1,2")
parser.add_argument("--batch", default="1,8")
parser.add_argument("--rounds", type=int, default=10)
asked = parser.parse_args()


def rivals() -> dict[str, torch.nn.Module]:
    found: dict[str, torch.nn.Module] = {}
    import torchvision.models

    if asked.name in torchvision.models.list_models():
        found["torchvision"] = torchvision.models.get_model(asked.name, weights=None)
    try:
        import timm
    except ImportError:
        return found
    name = TIMM.get(asked.name, asked.name)
    if timm.is_model(name):
        found["timm"] = timm.create_model(name, pretrained=False)
    return found


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


run = find_run(asked.name)
shape = (run.preprocess.height, run.preprocess.width, run.preprocess.channels)
with tempfile.TemporaryDirectory() as scratch:
    others: list[Contender] = []
    for title, net in rivals().items():
        whole = torch.nn.Sequential(Scale(run.preprocess), net, torch.nn.Softmax(dim=1)).eval()
        others += pytorch.contenders(
            whole, ["pytorch"], Path(scratch) / f"{title}.pt", shape=shape, title=f"{title} in "
        )
    result = bench(
        asked.name,
        engines=asked.engines.split(","),
        threads=numbers(asked.threads),
        batches=numbers(asked.batch),
        rounds=asked.rounds,
        others=others,
        report=handlens.Reporter(say=print),
    )
keys = ("name", "runtime", "threads", "batch", "median_ms", "p90_ms", "processor_ms", "first_s", "peak_mb", "faster")
store(
    "bench_rivals",
    [{"model": asked.name} | {key: row[key] for key in keys} for row in result["rows"]],
    notes=[f"Load of the machine before: {result['machine']['load']}."],
)
