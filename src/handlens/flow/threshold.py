"""The score from which a detector's boxes are worth showing, chosen on the validation pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from handlens.data.annotations import usable_boxes
from handlens.data.record import Dataset
from handlens.flow.report import Reporter
from handlens.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.deploy.engines import Arrays

USUAL = 0.3  # where no box is right on validation, so that no threshold is better than another; our choice


def choose_threshold(net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter) -> float:
    """The threshold with the best F1 on validation, by what the net answers in PyTorch fp32."""
    import torch

    from handlens.deploy.engines import TorchEngine
    from handlens.deploy.graph import DeployGraph
    from handlens.deploy.graph_names import OUTPUTS
    from handlens.evaluate.detection import best_threshold
    from handlens.predict.predictor import Predictor
    from handlens.results import Boxes
    from handlens.train.run import Run

    graph = DeployGraph(net.eval(), preprocess, task="detect")

    def forward(images: NDArray[np.uint8]) -> Arrays:
        with torch.inference_mode():
            answers = graph(torch.tensor(images))
        return {name: answer.numpy() for name, answer in zip(OUTPUTS["detect"], answers, strict=True)}

    run = Run(
        folder, {"task": "detect", "class_names": dataset.class_names, "preprocess": preprocess.to_dict()}
    )  # before model.json is there
    predictor = Predictor(run, engine=TorchEngine(forward, runtime=f"PyTorch {torch.__version__}"), threshold=0.0)
    records = dataset.part("validation")
    predicted, truths = [], []
    for done, (record, prediction) in enumerate(
        zip(records, predictor.predict(record.path for record in records), strict=True), start=1
    ):
        report.progress("choosing the score threshold", done, len(records))
        if isinstance(prediction.result, Boxes):
            predicted.append(prediction.result)
            truths.append(usable_boxes(record, size=(prediction.result.width, prediction.result.height)))
    chosen = best_threshold(predicted, truths)
    return USUAL if chosen is None else chosen
