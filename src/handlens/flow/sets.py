"""Prediction sets: thresholds from predictions for images that the model has not learned from, kept in the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.labels.finding import counted
from handlens.errors import InputError, require
from handlens.evaluation.conformal import fewest, lac_scores, measured_sets, sets, threshold
from handlens.files import write_json
from handlens.flow.labeled_images import TestImages, run_classes, test_images
from handlens.flow.runs import build_from
from handlens.prediction.predictor import Predictor
from handlens.reading.parsed import read_json
from handlens.reporter import Reporter
from handlens.results import Prediction
from handlens.tasks import TASKS
from handlens.training.run import RECIPE, WEIGHTS, Run, locked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.data.record import Record

KEPT = "conformal.json"
OUT_OF_FOLD, VALIDATION = "out-of-fold predictions", "validation images"


@dataclass(frozen=True)
class Calibration:
    """
    Attributes:
        scores: (n,) of the true classes, ascending.
        source: OUT_OF_FOLD or VALIDATION.
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
        raise InputError(f"{run.folder.name} has no images of its own, which thresholds of sets are taken from.")
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
    learned = run.model.mode == "head" and bool(run.started()["splits"].get("test"))  # from the validation images too
    probabilities, labels = _out_of_fold(run, report) if learned else _validation(run, report)
    scores = lac_scores(probabilities)[np.arange(len(labels)), labels]
    calibration = Calibration(np.sort(scores).tolist(), OUT_OF_FOLD if learned else VALIDATION)
    with locked(run.folder):
        write_json(
            run.folder / KEPT,
            {"weights": run.model.files[WEIGHTS], "source": calibration.source, "scores": calibration.scores},
        )
    report.say(
        f"Thresholds of sets: from {len(labels)} {calibration.source}, kept in {KEPT}. To measure them on images that "
        f"the model has not seen: handlens evaluate {shlex.quote(str(run.folder))} [DATA] --sets 0.95"
    )
    return calibration


def _validation(run: Run, report: Reporter) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(N, K) probabilities of the run's validation images, and (N,) labels."""
    chosen = test_images(run, None, format=None, config=None, prefer="validation")
    for note in chosen.notes:
        report.say(note)
    rows, labels = [], []
    predictions = Predictor(run).predict(record.path for record in chosen.records)
    for done, (record, prediction) in enumerate(zip(chosen.records, predictions, strict=True), start=1):
        result: Any = prediction.result
        if result is not None:
            rows.append(result.probabilities)
            labels.append(record.label)
        report.progress("thresholds of sets", done, len(chosen.records))
    if not rows:
        raise InputError(f"none of the {len(chosen.records)} validation images in {chosen.root} can be read.")
    return np.stack(rows), np.array(labels, dtype=np.int64)


def _out_of_fold(run: Run, report: Reporter) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What heads give for the images of the fold that they were not fitted on, as in training.

    Raises:
        InputError: the images have changed since.
    """
    require("torch", extra="train", what="the first use of --sets with a run of mode head")
    from handlens.data import open_dataset
    from handlens.data.check import audit
    from handlens.data.findings import contents_fingerprint
    from handlens.tasks.heads import FrozenBackbone, fit_frozen_head
    from handlens.training.recipe_file import read_recipe

    assert run.model.data is not None
    started, task = run.started(), TASKS[run.task]
    root = run.model.data.root
    dataset = open_dataset(root, format=started["format"], config=run.config(), task=run.task)
    audited = audit(dataset, progress=report.steps("checking"))
    index, kind = run_classes(dataset, run, []), dataset.kind  # there may be another class since, which shifts indices
    found = {record.id: record for record in audited.usable().records}
    records: list[Record] = []
    for part in ("train", "validation"):  # in the order of training
        ids = started["splits"][part]
        there = {id: audited.digests[id] for id in ids if id in found}
        if contents_fingerprint(there) != started["fingerprints"][part]:
            raise InputError(
                f"the {part} images in {root} have changed since {run.folder.name} was trained; train again."
            )
        records += [replace(found[id], label=kind.relabeled(found[id].label, index)) for id in ids]
    run.check(RECIPE)
    recipe = read_recipe(run.folder / RECIPE)
    backbone = FrozenBackbone(build_from(run), run.preprocess, audited, recipe, report)
    head = fit_frozen_head(task.frozen(dataset), backbone, records, run.class_names)
    if head.out_of_fold is None:
        raise InputError(f"{counted(len(records), 'image')} are too few for thresholds of sets.")
    return head.out_of_fold, np.array([record.label for record in records], dtype=np.int64)
