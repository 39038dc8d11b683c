"""Every model in every runtime: python benchmarks/conversions.py [RUNTIME ...] [--models A,B] [--images N]

At the published size, float32, with published weights where they can be had here; other models get random weights and
the batch norm statistics of eight real images, so that their predictions differ. Compared with PyTorch as an export
is, on the first N (50) images of imagenet_val500. Seconds of the conversion alone. Also how far PyTorch's own float32
is from float64, on 16 images, in the same measure: a model can magnify rounding, and then no runtime does better.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import shared_images, store, stored_before
from torch import nn

from handlens.data.decode import decode
from handlens.errors import InputError
from handlens.flow.runs import build_from, find_run
from handlens.models import CATALOGUE, build
from handlens.models.loading import load_into
from handlens.models.pretrained import load_weights
from handlens.preprocess import SCALINGS, Preprocess
from handlens.runtimes import RUNTIMES
from handlens.runtimes.agreement import Agreement
from handlens.runtimes.engine import Arrays
from handlens.runtimes.fold import folded
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.separate import run_outside
from handlens.runtimes.source import Source
from handlens.tasks import TASKS
from handlens.tasks.task import Task
from handlens.weights import SOURCES

parser = argparse.ArgumentParser()
parser.add_argument("runtimes", nargs="*", default=list(RUNTIMES))
parser.add_argument("--models", default=",".join(CATALOGUE))
parser.add_argument("--images", type=int, default=50)
parser.add_argument("--run", type=Path, help="a trained run of the one model, in place of random weights")
asked = parser.parse_args()
files = sorted((shared_images("imagenet_val500") / "images").iterdir())[: asked.images]


def task_of(name: str):
    return next(task for task in TASKS.values() if task.models == CATALOGUE[name].task)


def made(name: str) -> tuple[nn.Module, Preprocess, str]:
    """The model in eval mode, its Preprocess, and where its weights are from."""
    entry, task = CATALOGUE[name], task_of(name)
    if asked.run:
        run = find_run(asked.run)
        assert run.model.architecture.name == name
        return build_from(run).eval(), run.preprocess, f"trained on {Path(run.model.data.root).name}"
    if name in SOURCES:
        try:
            net = build(name, num_classes=len(SOURCES[name].class_names))
            load_into(net, load_weights(name), new_head=False)
            return net.eval(), SOURCES[name].preprocess, "published"
        except InputError:
            pass
    torch.manual_seed(0)
    net = build(name, num_classes=max(2, entry.num_classes or task.published_classes))  # one class has one answer
    first = next((part for part in net.modules() if isinstance(part, nn.Conv2d)), None)
    mean, std = SCALINGS[entry.scaling]
    gray = first is None or first.in_channels == 1
    color = {"color": "gray", "mean": (0.5,), "std": (0.25,)} if gray else {"mean": mean, "std": std}
    side = entry.image_size
    preprocess = Preprocess(height=side, width=side, short_side=side, **color)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    if norms:
        pixels = np.stack([preprocess.pixels(decode(file)) for file in files[:8]])
        with torch.no_grad():
            net.train()(torch.from_numpy(preprocess.normalize(pixels)).permute(0, 3, 1, 2))
    return net.eval(), preprocess, "random"


def own_rounding(graph: DeployGraph, task: Task, single: Arrays, pixels: np.ndarray, ids: list[str]) -> Agreement:
    """PyTorch's answers in float32 compared with those of the same net in float64."""
    double = copy.deepcopy(graph.net).double()
    parts: list[tuple[np.ndarray, ...]] = []
    with torch.no_grad():
        for start in range(0, len(pixels), 4):
            inputs = graph.scale(torch.from_numpy(pixels[start : start + 4])).double()
            answer = task.last_step(double, double(inputs), suppress=True)
            parts.append(tuple(part.numpy() for part in (answer if isinstance(answer, tuple) else (answer,))))
    exact = {name: np.concatenate(column) for name, column in zip(task.outputs, zip(*parts, strict=True), strict=True)}
    return task.compare({name: single[name][: len(pixels)] for name in exact}, exact, ids, thresholds=())


KEYS = (
    *("model", "runtime", "weights", "images", "seconds", "MB", "delegated", "equal", "difference"),
    *("own equal", "own rounding", "passed", "refused", "measured"),
)


def keep(rows: list[dict]) -> None:
    """After each conversion: what was measured before an interruption is not lost."""
    measured = {(row["model"], row["runtime"]) for row in rows}
    others = [row for row in BEFORE if (row["model"], row["runtime"]) not in measured]
    store("conversions", [{key: row.get(key) for key in KEYS} for row in [*others, *rows]])


BEFORE = stored_before("conversions")
rows: list[dict] = []
for name in asked.models.split(","):
    task = task_of(name)
    net, preprocess, weights = made(name)
    graph = DeployGraph(net, preprocess, last_step=task.last_step)
    pixels = np.stack([preprocess.pixels(decode(file)) for file in files])
    parts = [graph.arrays(pixels[start : start + 8], task.outputs) for start in range(0, len(pixels), 8)]
    expected = {output: np.concatenate([part[output] for part in parts]) for output in task.outputs}
    few = [file.name for file in files[:16]]  # float64 is slow
    own = own_rounding(graph, task, expected, pixels[: len(few)], few)
    ready = folded(graph, torch.from_numpy(pixels[:2]))
    for to in asked.runtimes:
        runtime = RUNTIMES[to]
        row = {"model": name, "runtime": to, "weights": weights, "images": len(files)}
        row |= {"own equal": own.equal, "own rounding": own.largest_difference}
        with tempfile.TemporaryDirectory() as scratch:
            path, seen = Path(scratch) / f"model{runtime.suffix}", Path(scratch) / "pixels"
            seen.mkdir()
            with (seen / "0.npy").open("wb") as file:
                for image in pixels:
                    np.save(file, image[None])
            try:
                reason = runtime.refuses(name)
                if reason is not None:
                    raise InputError(reason)
                begin = time.perf_counter()
                delegation = runtime.convert(Source(ready, preprocess, task.outputs, {}), path)
                row["seconds"] = round(time.perf_counter() - begin, 1)
                row["delegated"] = str(delegation) if delegation else None
                row["MB"] = round(sum(part.stat().st_size for part in runtime.files(path)) / 1e6, 2)
                answers, _ = run_outside(path, runtime, precision="fp32", pixels=seen)
                values = {output: answers[f"0/{output}"] for output in task.outputs}
                found = task.compare(values, expected, [file.name for file in files], thresholds=())
                row |= {"equal": found.equal, "difference": found.largest_difference, "passed": found.passed}
            except InputError as error:
                row |= {"passed": False, "refused": str(error)}
        rows.append(row)
        print(row, flush=True)
        keep(rows)
