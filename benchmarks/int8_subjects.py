"""Shared by the benchmarks of int8: classifiers, their images, and what a file answers.

With published ImageNet weights: the 500 images of imagenet_val500 as they are stored (short side 224), calibrated on
50 flowers and 50 images of coco_val128. Of a run: its test images, calibrated on its training images.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import shared_images
from numpy.typing import NDArray
from torch import nn

from handlens.data import open_dataset
from handlens.data.decode import decode
from handlens.flow.calibration import calibration_images
from handlens.flow.labeled_images import test_images
from handlens.flow.runs import build_from, find_run
from handlens.quantization.rewritten import with_corrected_bias
from handlens.quantization.sensitivity import normalized
from handlens.runtimes import RUNTIMES
from handlens.runtimes.fold import folded
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.int8 import EVERY, Setting
from handlens.runtimes.source import Source
from handlens.tasks import TASKS
from handlens.training.model_info import metadata


def calibration_files() -> list[Path]:
    flowers = sorted((shared_images("flowers") / "train").rglob("*.jpg"))
    coco = sorted((shared_images("coco_val128") / "images").iterdir())
    return [*flowers[:: len(flowers) // 50][:50], *coco[:50]]


def imagenet_folder(scratch: Path) -> Path:
    """A data set for handlens."""
    data = scratch / "imagenet"
    if not data.exists():
        shutil.copytree(shared_images("imagenet_val500"), data)
        (data / "handlens.yaml").write_text("csv: {label: class_index}\n", encoding="utf-8")
    return data


@dataclass(frozen=True)
class Subject:
    """A classifier: its folded net, images (N, H, W, C) uint8, labels, and probabilities in float32."""

    name: str
    net: nn.Module
    run: Any
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    calibration: NDArray[np.uint8]
    own: NDArray[np.float32]

    def source(self, net: nn.Module) -> Source:
        task = TASKS[self.run.task]
        said = metadata(
            task=task.name,
            architecture=self.run.model.architecture,
            class_names=self.run.class_names,
            preprocess=self.run.preprocess,
            chosen=self.run.model.chosen,
        )
        graph = DeployGraph(net, self.run.preprocess, last_step=task.last_step)
        return Source(graph, self.run.preprocess, task.outputs, said)

    def int8(self, net: nn.Module, to: str, setting: Setting, folder: Path, *, correct_bias: bool = True) -> Path:
        """The file that an export makes, without its gate."""
        runtime = RUNTIMES[to]
        if correct_bias and setting.scheme.bias_correction == EVERY:
            net = with_corrected_bias(net, normalized(self.calibration, self.run.preprocess), setting.scheme)
        whole, made = (folder / part / f"model{runtime.suffix}" for part in ("float", "int8"))
        for file in (whole, made):
            file.parent.mkdir(parents=True)
        source = self.source(net)
        runtime.convert(source, whole)
        runtime.quantize(source, whole, made, images=self.calibration, setting=setting)
        return made

    def answers(self, to: str, file: Path) -> NDArray[np.float32]:
        """(N, K) probabilities of a file."""
        model = RUNTIMES[to].open(file, threads=1)
        return np.concatenate([model.run(image[None])["probabilities"] for image in self.pixels])

    def accuracy(self, probabilities: NDArray[np.float32]) -> float:
        return float((probabilities.argmax(axis=1) == self.labels).mean())

    def equal(self, probabilities: NDArray[np.float32]) -> float:
        """Share of labels that are those of float32."""
        return float((probabilities.argmax(axis=1) == self.own.argmax(axis=1)).mean())


def subject(name: str, data: Path) -> Subject:
    """
    Args:
        data: `imagenet_folder`.
    """
    dataset = open_dataset(data)
    labels = np.array([int(dataset.class_names[record.label]) for record in dataset.records])
    found = find_run(name)
    run = replace(found, model=replace(found.model, preprocess=replace(found.preprocess, short_side=224)))
    pixels = np.stack([run.preprocess.pixels(decode(record.path)) for record in dataset.records])
    calibration = np.stack([run.preprocess.pixels(decode(path)) for path in calibration_files()])
    return _subject(name, run, pixels, labels, calibration)


def subject_of_run(folder: Path) -> Subject:
    """A trained classifier on its test images."""
    run = find_run(folder)
    records = test_images(run, None, format=None, config=None).records
    labels = np.array([record.label for record in records])
    pixels = np.stack([run.preprocess.pixels(decode(record.path)) for record in records])
    name = f"{run.model.architecture.name} on {Path(run.model.data.root).name}, {run.model.mode}"
    return _subject(name, run, pixels, labels, calibration_images(run, None))


def _subject(
    name: str, run: Any, pixels: NDArray[np.uint8], labels: NDArray[np.int64], calibration: NDArray[np.uint8]
) -> Subject:
    preprocess, task = run.preprocess, TASKS[run.task]
    net = folded(build_from(run), torch.zeros(1, preprocess.channels, preprocess.height, preprocess.width))
    graph = DeployGraph(net, preprocess, last_step=task.last_step)
    own = np.concatenate([graph.arrays(part, task.outputs)["probabilities"] for part in np.array_split(pixels, 32)])
    return Subject(name, net, run, pixels, labels, calibration, own)
