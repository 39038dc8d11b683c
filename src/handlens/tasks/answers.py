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
    from handlens.runtimes.engine import Arrays


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
    import torch

    from handlens.runtimes.engine import TorchEngine
    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.stream import answers

    graph = DeployGraph(net.eval(), preprocess, last_step=task.last_step)

    def forward(images: NDArray[np.uint8]) -> Arrays:
        return graph.arrays(images, task.outputs)

    engine = TorchEngine(forward, runtime=f"PyTorch {torch.__version__}")
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
