"""What a classifier predicts for images of its own data that it has not learned from: what its temperature and the
thresholds of its sets are taken from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from handlens.data.labels.finding import counted
from handlens.errors import InputError, require
from handlens.evaluation.calibration import tempered
from handlens.flow.labeled_images import TestImages, run_classes, test_images
from handlens.flow.runs import build_from
from handlens.prediction.predictor import Predictor
from handlens.reporter import Reporter
from handlens.results import Classes
from handlens.tasks import TASKS
from handlens.training.run import RECIPE, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.data.record import Record

OUT_OF_FOLD, VALIDATION = "out-of-fold predictions", "validation images"


@dataclass(frozen=True)
class HeldOut:
    """
    Attributes:
        probabilities: (N, K), as the model gives them.
        labels: (N,) class indices.
        source: OUT_OF_FOLD or VALIDATION, or what else they are predictions for.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    source: str


def held_out(run: Run, report: Reporter, *, what: str) -> HeldOut:
    """Of a head that learned from the validation images too, the predictions by cross-validation; else those for the
    validation images.

    Args:
        what: it is for, as its progress is called.

    Raises:
        InputError: the images are no longer as they were, or none can be read.
    """
    if run.model.mode == "head" and run.started()["splits"].get("test"):
        return _out_of_fold(run, report)
    return predicted(run, test_images(run, None, format=None, config=None, prefer="validation"), report, what=what)


def predicted(run: Run, images: TestImages, report: Reporter, *, what: str) -> HeldOut:
    """Predictions for labeled images, whatever they are.

    Raises:
        InputError: none can be read.
    """
    for note in images.notes:
        report.say(note)
    rows, labels = [], []
    predictions = Predictor(run).predict(record.path for record in images.records)
    for done, (record, prediction) in enumerate(zip(images.records, predictions, strict=True), start=1):
        if prediction.result is not None:
            assert isinstance(prediction.result, Classes)
            rows.append(prediction.result.probabilities)
            labels.append(record.label)
        report.progress(what, done, len(images.records))
    if not rows:
        raise InputError(f"none of the {len(images.records)} images in {images.root} can be read.")
    source = VALIDATION if images.own and images.split == "validation" else f"images of {images.root.name}"
    return HeldOut(np.stack(rows), np.array(labels, dtype=np.int64), source)


def _out_of_fold(run: Run, report: Reporter) -> HeldOut:
    """What heads give for the images of the fold that they were not fitted on, as in training.

    Raises:
        InputError: the images have changed since.
    """
    require("torch", extra="train", what="cross-validation of a run of mode head")
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
        raise InputError(f"{counted(len(records), 'image')} are too few for cross-validation.")
    labels = np.array([record.label for record in records], dtype=np.int64)
    return HeldOut(tempered(head.out_of_fold, run.model.temperature), labels, OUT_OF_FOLD)
