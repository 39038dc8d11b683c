"""What a model predicts for validation images before its run is whole, in PyTorch fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from handlens.data.record import Dataset, Record
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.results import Result
    from handlens.runtimes.engine import Arrays, Engine

SAMPLES = 8  # images
SAMPLE_SIDE = 224  # pixels
SAMPLE_THRESHOLD = 0.5  # before thresholds are chosen; our choice


def validation_answers(
    task: Task,
    net: nn.Module,
    preprocess: Preprocess,
    dataset: Dataset,
    *,
    thresholds: Sequence[float],
    what: str,
    report: Reporter,
) -> Iterator[tuple[Record, Result]]:
    """The validation images that can be read, each with its prediction.

    Args:
        what: it is for, as its progress is called.
    """
    from handlens.runtimes.stream import answers

    engine = _engine(task, net, preprocess)
    records = dataset.part("validation")
    paths = (record.path for record in records)
    found = answers(paths, engine, preprocess=preprocess)
    for done, (record, answer) in enumerate(zip(records, found, strict=True), start=1):
        report.progress(what, done, len(records))
        if answer.arrays is not None:
            yield (
                record,
                task.answer(
                    answer.arrays, *answer.size, preprocess=preprocess, names=dataset.class_names, thresholds=thresholds
                ),
            )


def sample_predictions(task: Task, preprocess: Preprocess, dataset: Dataset, net: nn.Module) -> NDArray[np.uint8]:
    """A sheet (H, W, 3) of a few validation images with what a net that is being trained predicts for them now.

    Args:
        net: it is finished as after training, and not to be trained any further.
    """
    import torch

    from handlens.data.decode import decode
    from handlens.evaluation.contact_sheet import contact_sheet
    from handlens.runtimes.stream import answers

    pool = dataset.part("validation")
    records = [pool[i] for i in sorted({round(k * (len(pool) - 1) / (SAMPLES - 1)) for k in range(SAMPLES)})]
    thresholds = (SAMPLE_THRESHOLD,) * len(dataset.class_names)
    with torch.random.fork_rng(devices=[]):
        net = net.float().cpu()
        task.finish(net, dataset, {})
        engine = _engine(task, net, preprocess)
        images, captions = [], []
        found = answers((record.path for record in records), engine, preprocess=preprocess)
        for record, answer in zip(records, found, strict=True):
            if answer.arrays is None:
                continue
            result = task.answer(
                answer.arrays, *answer.size, preprocess=preprocess, names=dataset.class_names, thresholds=thresholds
            )
            image = decode(record.path)
            images.append(result.draw(image) if result.on_pixels else image)
            captions.append(f"{record.path.name}\n{result.caption()}")
    return contact_sheet(images, captions, tile=SAMPLE_SIDE)


def _engine(task: Task, net: nn.Module, preprocess: Preprocess) -> Engine:
    import torch

    from handlens.runtimes.engine import TorchEngine
    from handlens.runtimes.graph import DeployGraph

    graph = DeployGraph(net.eval(), preprocess, last_step=task.last_step)

    def forward(images: NDArray[np.uint8]) -> Arrays:
        return graph.arrays(images, task.outputs)

    return TorchEngine(forward, runtime=f"PyTorch {torch.__version__}")
