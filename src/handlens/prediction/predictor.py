"""A run and its engine: files in, results out, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.data.decode import UnreadableImageError, decode, rgb
from handlens.data.orientation import loaded_orientation, upright
from handlens.errors import InputError
from handlens.prediction.engines import check_engine
from handlens.preprocess import Preprocess
from handlens.results import Prediction, Result
from handlens.runtimes import open_engine
from handlens.runtimes.engine import Arrays, Engine, Precision
from handlens.runtimes.stream import answers, load_pixels, load_whole
from handlens.tasks import TASKS
from handlens.training.run import Run

Input = Path | str | bytes | Image.Image | NDArray[np.uint8]


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
        self.task = TASKS[run.task]
        if tiles and not self.task.has_windows:
            raise InputError(
                f"tiles are available for segmentation only; the task of {run.folder.name} is {self.task.name}."
            )
        self.tiles = tiles
        self.preprocess = preprocess or run.preprocess
        self.names = run.class_names
        own = self.task.thresholds(run.model.chosen)
        self.thresholds = own if threshold is None else (threshold,) * len(own)
        if engine is None:
            engine = open_engine(run.engine, precision=precision, latency=latency)
            check_engine(run, engine, run.engine)
        self.engine = engine
        self._resizes = run.resizes

    def predict(self, paths: Iterable[Path]) -> Iterator[Prediction]:
        """One Prediction per path, in order; paths are taken lazily."""
        if self.tiles:
            yield from map(self._tiled_file, paths)
            return
        load = load_whole if self._resizes else load_pixels
        for answer in answers(paths, self.engine, preprocess=self.preprocess, load=load):
            if answer.arrays is None:
                yield Prediction(answer.path, None, answer.error)
            else:
                yield Prediction(answer.path, self.result(answer.arrays, *answer.size))

    @overload
    def __call__(self, image: Input) -> Result: ...

    @overload
    def __call__(self, image: list[Input] | tuple[Input, ...]) -> list[Result]: ...

    def __call__(self, image: Input | list[Input] | tuple[Input, ...]) -> Result | list[Result]:
        """One image or a list of them: a path, the bytes of a file, a PIL image, or (H, W, 3) uint8 RGB.

        Raises:
            UnreadableImageError: the file cannot be read.
            InputError: anything else, or an array with a different shape or type.
        """
        if isinstance(image, (list, tuple)):
            return [self._one(entry) for entry in image]
        return self._one(image)

    def _one(self, image: Any) -> Result:
        pixels = _pixels(image)
        if self.tiles:
            return self._tiled(pixels)
        arrays = self.engine.run((pixels if self._resizes else self.preprocess.pixels(pixels))[None])
        return self.result({name: values[0] for name, values in arrays.items()}, pixels.shape[0], pixels.shape[1])

    def _tiled_file(self, path: Path) -> Prediction:
        try:
            return Prediction(path, self._tiled(decode(path)))
        except UnreadableImageError as error:
            return Prediction(path, None, str(error))

    def _tiled(self, image: NDArray[np.uint8]) -> Result:
        return self.task.in_windows(image, self.engine, preprocess=self.preprocess, names=self.names)

    def result(self, arrays: Arrays, height: int, width: int) -> Result:
        """What the engine's arrays say about an image of this size."""
        return self.task.answer(
            arrays, height, width, preprocess=self.preprocess, names=self.names, thresholds=self.thresholds
        )


def _pixels(image: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright."""
    if isinstance(image, (str, Path)):
        return decode(Path(image))
    if isinstance(image, bytes):
        return decode(image, name="the bytes")
    if isinstance(image, Image.Image):
        image.load()  # which turns a TIFF
        return upright(rgb(image, "the image"), loaded_orientation(image))
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a path, bytes, a PIL image or an array, got {type(image).__name__}.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"an array must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}.")
    return image
