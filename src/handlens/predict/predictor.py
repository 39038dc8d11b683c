"""A run and its engine: files in, results out, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import decode
from handlens.deploy.engines import OpenVINOEngine, Precision
from handlens.deploy.graph_names import PROBABILITIES
from handlens.deploy.stream import answers
from handlens.results import Classes
from handlens.train.run import Run


@dataclass(frozen=True)
class Prediction:
    """What came of one file: a result, or the reason why there is none."""

    path: Path
    result: Classes | None
    error: str | None = None


class Predictor:
    """
    Args:
        run: an opened run folder.
        precision: "auto" is what the processor is fastest at; "fp32" is what was measured against PyTorch.
        latency: tuned for a few pictures rather than for many.
    """

    def __init__(self, run: Run, *, precision: Precision = "auto", latency: bool = False) -> None:
        self.run = run
        self.preprocess = run.preprocess
        self.names = run.class_names
        self.engine = OpenVINOEngine(run.engine, precision=precision, latency=latency)

    def predict(self, paths: Iterable[Path]) -> Iterator[Prediction]:
        """One Prediction per path, in order; paths are taken lazily."""
        for answer in answers(paths, self.engine, preprocess=self.preprocess):
            if answer.arrays is None:
                yield Prediction(answer.path, None, answer.error)
            else:
                yield Prediction(answer.path, Classes(answer.arrays[PROBABILITIES], self.names))

    def __call__(self, picture: Path | str | NDArray[np.uint8]) -> Classes:
        """One picture: a file, or (H, W, 3) uint8 RGB.

        Raises:
            UnreadablePictureError: the file cannot be read.
        """
        if not isinstance(picture, np.ndarray):
            picture = decode(Path(picture), at_least=self.preprocess.smallest_decode())
        pixels = self.preprocess.pixels(picture)
        return Classes(self.engine.run(pixels[None])[PROBABILITIES][0], self.names)
