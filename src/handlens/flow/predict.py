"""load and predict, without torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.errors import InputError
from handlens.flow.runs import find_run
from handlens.prediction.predictor import Prediction, Predictor
from handlens.reporter import QUIET, Reporter
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.runtimes.engine import Precision

FEW = 8  # up to so many images, answering the first one soon matters more than images per second


def load(run: Path | str | Run, *, precision: Precision = "auto") -> Predictor:
    """A predictor: `load("runs/breads")("photo.jpg").label`. Does not import torch."""
    return Predictor(find_run(run), precision=precision, latency=True)


def predict(
    run: Path | str | Run,
    paths: Iterable[Path | str],
    *,
    precision: Precision = "auto",
    threshold: float | None = None,
    tiles: bool = False,
    report: Reporter = QUIET,
) -> Iterator[Prediction]:
    """Predict files and folders: one Prediction per image, in order, streaming.

    Args:
        paths: files and folders; a folder is walked, sorted by name, and what is no image is skipped.
        threshold: lowest score, of detection, or lowest probability of a label where there may be several; None is
            the run's own, chosen on validation.
        tiles: segment large images in overlapping windows at their own size.

    Raises:
        InputError: at once, before the first image: no such run, none of the paths exists, or no image in them.
    """
    from handlens.data import walk

    named = [Path(path) for path in paths]
    if not any(path.exists() for path in named):
        raise InputError(f"not found: {', '.join(map(str, named[:5]))}.")
    files = walk(named)
    first = list(itertools.islice(files, FEW + 1))
    if not first:
        raise InputError(f"no images in {', '.join(map(str, named[:5]))}.")
    run = find_run(run, report=report)
    if threshold is not None and not TASKS[run.task].has_threshold:
        raise InputError(
            f"a threshold applies to detection and multi-label models; the task of {run.folder.name} is {run.task}."
        )
    predictor = Predictor(run, precision=precision, latency=len(first) <= FEW, threshold=threshold, tiles=tiles)
    return predictor.predict(itertools.chain(first, files))
