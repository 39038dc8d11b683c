"""A run and its engine: files in, results out, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import UnreadableImageError, decode
from handlens.data.record import Task
from handlens.errors import InputError
from handlens.prediction.tiles import tiled_classes
from handlens.preprocess import Preprocess
from handlens.results import Boxes, Classes, Mask, Result, Tags
from handlens.runtimes.engine import Arrays, Engine, OpenVINOEngine, Precision
from handlens.runtimes.names import BOXES, CLASS_MAP, LABELS, PROBABILITIES, SCORES
from handlens.runtimes.stream import answers
from handlens.training.run import Run


@dataclass(frozen=True)
class Prediction:
    """What came of one file: a result, or the reason why there is none."""

    path: Path
    result: Result | None
    error: str | None = None


class Predictor:
    """
    Args:
        run: an opened run folder.
        precision: "auto" is what the processor is fastest at; "fp32" is what was measured against PyTorch.
        latency: tuned for a few images rather than for many.
        threshold: of detection's scores, or of every label where an image may have several; None is the run's own,
            chosen on validation.
        tiles: segment images larger than the net's input in overlapping windows at their own size, rather than
            reduced: for images taken at the scale of those the net was trained with, and more of it.
        engine, preprocess: in place of the run's own, for experiments.
    """

    def __init__(
        self,
        run: Run,
        *,
        precision: Precision = "auto",
        latency: bool = False,
        threshold: float | None = None,
        tiles: bool = False,
        engine: Engine | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        self.task = run.task
        if tiles and self.task != "segment":
            raise InputError(f"tiles are for nets that segment; {run.folder.name} is a net to {self.task}.")
        self.tiles = tiles
        self.preprocess = preprocess or run.preprocess
        self.names = run.class_names
        self.thresholds = own_thresholds(run) if threshold is None else (threshold,) * len(own_thresholds(run))
        self.engine = engine or OpenVINOEngine(run.engine, precision=precision, latency=latency)

    def predict(self, paths: Iterable[Path]) -> Iterator[Prediction]:
        """One Prediction per path, in order; paths are taken lazily."""
        if self.tiles:
            yield from map(self._tiled_file, paths)
            return
        for answer in answers(paths, self.engine, preprocess=self.preprocess, sized=self.task in ("segment", "detect")):
            if answer.arrays is None:
                yield Prediction(answer.path, None, answer.error)
            else:
                yield Prediction(answer.path, self.result(answer.arrays, *answer.size))

    def __call__(self, image: Path | str | NDArray[np.uint8]) -> Result:
        """One image: a file, or (H, W, 3) uint8 RGB.

        Raises:
            UnreadableImageError: the file cannot be read.
        """
        if not isinstance(image, np.ndarray):
            reduced = None if self.task in ("segment", "detect") else self.preprocess.smallest_decode()
            image = decode(Path(image), at_least=reduced)
        if self.tiles:
            return self._tiled(image)
        arrays = self.engine.run(self.preprocess.pixels(image)[None])
        return self.result({name: values[0] for name, values in arrays.items()}, image.shape[0], image.shape[1])

    def _tiled_file(self, path: Path) -> Prediction:
        try:
            return Prediction(path, self._tiled(decode(path)))
        except UnreadableImageError as error:
            return Prediction(path, None, str(error))

    def _tiled(self, image: NDArray[np.uint8]) -> Mask:
        """Each window votes for the classes it sees, its middle more than its edge."""
        votes = np.eye(len(self.names), dtype=np.float32)

        whole = replace(self.preprocess, resize="stretch")  # a window has the net's size; its colors may change

        def predict(window: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(votes[self.engine.run(whole.pixels(window)[None])[CLASS_MAP][0]])

        height, width = self.preprocess.height, self.preprocess.width
        return Mask(tiled_classes(image, predict, height=height, width=width), self.names)

    def result(self, arrays: Arrays, height: int, width: int) -> Result:
        """`in_image`, with what this predictor knows."""
        return in_image(
            arrays,
            height,
            width,
            task=self.task,
            preprocess=self.preprocess,
            names=self.names,
            thresholds=self.thresholds,
        )


def own_thresholds(run: Run) -> tuple[float, ...]:
    """What a run was given on its validation images: one of boxes, one per class of labels, none of others."""
    if run.task == "tag":
        return tuple(run.model["thresholds"])
    return (float(run.model.get("threshold", 0.0)),) if run.task == "detect" else ()


def in_image(
    arrays: Arrays,
    height: int,
    width: int,
    *,
    task: Task,
    preprocess: Preprocess,
    names: tuple[str, ...],
    thresholds: Sequence[float] = (),
) -> Result:
    """What an engine's arrays say about an image of this size, in the image's own pixels.

    Args:
        arrays: by output name, without the batch.
        thresholds: boxes of lower scores than the first are left out, all are there without one; labels, of images
            that may have several, have one per class.
    """
    if task == "classify":
        return Classes(arrays[PROBABILITIES], names)
    if task == "tag":
        return Tags(arrays[PROBABILITIES], names, tuple(thresholds))
    if task == "segment":
        return Mask(preprocess.restored(arrays[CLASS_MAP], height, width), names)
    size = np.array([preprocess.width, preprocess.height] * 2)
    corners = preprocess.geometry(height, width).restored_boxes(arrays[BOXES] * size)
    return Boxes.clipped(
        corners,
        arrays[LABELS],
        arrays[SCORES],
        names,
        height=height,
        width=width,
        threshold=thresholds[0] if thresholds else 0.0,
    )
