"""Prediction sets: thresholds from predictions for images that the model has not learned from, kept in the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from handlens.data.labels.finding import counted
from handlens.errors import InputError
from handlens.evaluation.conformal import fewest, lac_scores, measured_sets, sets, threshold
from handlens.files import write_json
from handlens.flow.held_out import held_out
from handlens.flow.labeled_images import TestImages
from handlens.reading.parsed import read_json
from handlens.reporter import Reporter
from handlens.results import Prediction
from handlens.tasks import TASKS
from handlens.tasks.pieces import VALIDATION
from handlens.training.run import WEIGHTS, Run, locked

KEPT = "conformal.json"


@dataclass(frozen=True)
class Calibration:
    """
    Attributes:
        scores: (n,) of the true classes, ascending.
        source: as `HeldOut.source`.
    """

    scores: Sequence[float]
    source: str


def require_sets(run: Run, coverage: float, precision: str) -> None:
    """
    Raises:
        InputError: no level, another task, or a model without images of its own.
    """
    if not 0 < coverage < 1:
        raise InputError(f"--sets must be between 0 and 1, such as 0.95, got {coverage:g}.")
    task = TASKS[run.task]
    if task.set_result is None:
        raise InputError(
            f"sets are available for single-label classification only; the task of {run.folder.name} is {task.name}."
        )
    if run.folder.is_file():
        raise InputError(f"sets need the thresholds of a run; {run.folder.name} is a file: give its run folder.")
    if run.model.data is None:
        raise InputError(f"--sets needs images that the model was trained on; {run.folder.name} has none of its own.")
    if precision == "int8":
        raise InputError("thresholds of sets are those of the float model; omit --precision int8 or --sets.")


def limit_of(run: Run, coverage: float, report: Reporter) -> float:
    """The threshold of sets that hold the truth with this probability.

    Raises:
        InputError: the images are no longer as they were, or too few.
    """
    calibration = _kept(run) or _calibrated(run, report)
    count, least = len(calibration.scores), fewest(coverage)
    if count < least:
        raise InputError(
            f"{counted(count, 'image')} to take a threshold from are too few for sets of {100 * coverage:g} %: at "
            f"least {least} are needed; ask for less."
        )
    return threshold(calibration.scores, coverage)


def with_sets(predictions: Iterator[Prediction], task: str, limit: float) -> Iterator[Prediction]:
    """Predictions whose results say which classes are in the set."""
    kind: Any = TASKS[task].set_result
    for one in predictions:
        result: Any = one.result
        yield one if result is None else Prediction(one.path, kind(result.probabilities, result.names, limit))


def says_nothing(run: Run, test: TestImages) -> bool:
    """Whether the thresholds were taken from the images that they are to be measured on, which then hold by
    construction."""
    kept = _kept(run)
    return kept is not None and kept.source == VALIDATION and test.own and test.split == "validation"


def measure_sets(results: Sequence[Any], labels: Sequence[int], coverage: float, limit: float) -> dict[str, Any]:
    """As `evaluation.conformal.measured_sets`, of an evaluation's results, with "asked"."""
    probabilities = np.stack([result.probabilities for result in results]).astype(np.float64)
    chosen = sets(lac_scores(probabilities), limit)
    chosen[np.arange(len(chosen)), probabilities.argmax(axis=1)] = True  # as ClassSet
    return {"asked": coverage} | measured_sets(chosen, np.array(labels, dtype=np.int64))


def _kept(run: Run) -> Calibration | None:
    """What an earlier command has kept for these weights.

    Raises:
        InputError: it is damaged.
    """
    path = run.folder / KEPT
    if not path.is_file():
        return None
    value = read_json(path)
    known = isinstance(value, dict) and isinstance(value.get("scores"), list) and isinstance(value.get("source"), str)
    if known and value.get("weights") != run.model.files[WEIGHTS]:
        return None
    scores = value["scores"] if known else []
    whole = all(isinstance(score, float | int) and -1e-6 <= score <= 1 + 1e-6 for score in scores)
    if not scores or not whole or any(low > high for low, high in pairwise(scores)):
        raise InputError(f"{path} is damaged; remove it, and the thresholds are computed again.")
    return Calibration(scores, value["source"])


def _calibrated(run: Run, report: Reporter) -> Calibration:
    """Computed, and kept in the run."""
    found = held_out(run, report, what="thresholds of sets")
    count = len(found.labels)
    scores = lac_scores(found.probabilities)[np.arange(count), found.labels]
    calibration = Calibration(np.sort(scores).tolist(), found.source)
    with locked(run.folder):
        write_json(
            run.folder / KEPT,
            {"weights": run.model.files[WEIGHTS], "source": calibration.source, "scores": calibration.scores},
        )
    report.say(
        f"Thresholds of sets: from {count} {calibration.source}, kept in {KEPT}. To measure them on images that "
        f"the model has not seen: handlens evaluate {shlex.quote(str(run.folder))} [DATA] --sets 0.95"
    )
    return calibration
