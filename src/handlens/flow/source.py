"""What a runtime's converter takes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlens.runtimes.source import Source
from handlens.tasks import TASKS
from handlens.training.model_info import metadata
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.runtimes.graph import DeployGraph


def source_of(run: Run, graph: DeployGraph) -> Source:
    """A run's whole graph, with batch norm folded and the metadata that its file will have."""
    import torch

    from handlens.runtimes.fold import folded

    preprocess, task = run.preprocess, TASKS[run.task]
    said = metadata(
        task=run.task,
        architecture=run.model.architecture,
        class_names=run.class_names,
        preprocess=preprocess,
        chosen=run.model.chosen,
    )
    example = torch.zeros((2, preprocess.height, preprocess.width, preprocess.channels), dtype=torch.uint8)
    return Source(folded(graph, example), preprocess, task.outputs, said)
