"""The score from which an answer is worth giving, chosen on the validation images: of a detector's boxes, or of each
label where an image may have several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.data.annotations import usable_boxes
from handlens.data.record import Dataset, Record
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.results import Result
    from handlens.runtimes.engine import Arrays

USUAL = 0.3  # where no box is right on validation, so that no threshold is better than another; our choice


def choose_threshold(net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter) -> float:
    """The threshold with the best F1 on validation, by what the net answers in PyTorch fp32."""
    from handlens.evaluation.detection import best_threshold
    from handlens.results import Boxes

    predicted, truths = [], []
    for record, result in _answers(net, preprocess, dataset, folder, report):
        assert isinstance(result, Boxes)
        predicted.append(result)
        truths.append(usable_boxes(record, size=(result.width, result.height)))
    chosen = best_threshold(predicted, truths)
    return USUAL if chosen is None else chosen


def choose_thresholds(
    net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
) -> list[float]:
    """Per label the threshold with the best F1 on validation, by what the net answers in PyTorch fp32."""
    import numpy as np

    from handlens.data.record import tag_targets
    from handlens.evaluation.tags import best_thresholds
    from handlens.results import Tags

    rows, records = [], []
    for record, result in _answers(net, preprocess, dataset, folder, report):
        assert isinstance(result, Tags)
        rows.append(result.probabilities)
        records.append(record)
    return best_thresholds(np.stack(rows), tag_targets(records, len(dataset.class_names)) > 0)


def _answers(
    net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
) -> Iterator[tuple[Record, Result]]:
    """Of the validation images that can be read, with every box, however low its score."""
    import torch

    from handlens.prediction.predictor import Predictor
    from handlens.runtimes.engine import TorchEngine
    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.names import OUTPUTS
    from handlens.training.run import Run

    task, names = dataset.task, dataset.class_names
    graph = DeployGraph(net.eval(), preprocess, task=task)

    def forward(images: NDArray[np.uint8]) -> Arrays:
        with torch.inference_mode():
            answer = graph(torch.tensor(images))
        parts = answer if isinstance(answer, tuple) else (answer,)
        return {name: part.numpy() for name, part in zip(OUTPUTS[task], parts, strict=True)}

    model = {"task": task, "class_names": names, "preprocess": preprocess.to_dict()}  # before model.json is there
    run = Run(folder, model | ({"thresholds": [0.0] * len(names)} if task == "tag" else {}))
    predictor = Predictor(run, engine=TorchEngine(forward, runtime=f"PyTorch {torch.__version__}"), threshold=0.0)
    records = dataset.part("validation")
    predictions = predictor.predict(record.path for record in records)
    for done, (record, prediction) in enumerate(zip(records, predictions, strict=True), start=1):
        report.progress("choosing thresholds", done, len(records))
        if prediction.result is not None:
            yield record, prediction.result
