"""What a classifier predicts for images of its own data that it has not learned from: what its temperature and the
thresholds of its sets are taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from handlens.data.labels.finding import counted
from handlens.errors import InputError, require
from handlens.evaluation.calibration import tempered
from handlens.flow.embeddings import is_ours
from handlens.flow.labeled_images import TestImages, run_classes, test_images
from handlens.flow.runs import build_from
from handlens.prediction.predictor import Predictor
from handlens.reporter import Reporter
from handlens.results import Classes
from handlens.tasks import TASKS
from handlens.tasks.pieces import OUT_OF_FOLD, VALIDATION
from handlens.training.run import RECIPE, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.data.record import Dataset, Record
    from handlens.tasks.heads import FrozenBackbone


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
    if head_learned_all(run):
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
        else:
            report.say(f"Left out: {prediction.error}")
        report.progress(what, done, len(images.records))
    if not rows:
        raise InputError(f"none of the {len(images.records)} images in {images.root} can be read.")
    source = VALIDATION if images.own and images.split == "validation" else f"images of {images.root.resolve().name}"
    return HeldOut(np.stack(rows), np.array(labels, dtype=np.int64), source)


@dataclass(frozen=True)
class Learned:
    """The images that a run was trained and validated on, as they were then.

    Attributes:
        records: by split, labels as indices into the run's classes.
        backbone: gives their features by the run's weights.
    """

    dataset: Dataset
    records: Mapping[str, list[Record]]
    backbone: FrozenBackbone


def learned_images(run: Run, report: Reporter, *, what: str) -> Learned:
    """
    Args:
        what: they are for, where PyTorch is not installed.

    Raises:
        InputError: the images have changed since, or PyTorch is not installed.
    """
    require("torch", extra="train", what=what)
    from handlens.data import open_dataset
    from handlens.data.check import audit
    from handlens.data.findings import contents_fingerprint
    from handlens.tasks.heads import FrozenBackbone
    from handlens.training.recipe_file import read_recipe

    assert run.model.data is not None
    started, root = run.started(), run.model.data.root
    dataset = open_dataset(root, format=started["format"], config=run.config(), task=run.task)
    audited = audit(dataset, progress=report.steps("checking"))
    index, kind = run_classes(dataset, run, []), dataset.kind  # there may be another class since, which shifts indices
    found = {record.id: record for record in audited.usable().records}
    records: dict[str, list[Record]] = {}
    for part in ("train", "validation"):
        ids = started["splits"][part]
        there = {id: audited.digests[id] for id in ids if id in found}
        if contents_fingerprint(there) != started["fingerprints"][part]:
            raise InputError(
                f"the {part} images in {root} have changed since {run.folder.name} was trained; train again."
            )
        records[part] = [replace(found[id], label=kind.relabeled(found[id].label, index)) for id in ids]
    run.check(RECIPE)
    recipe = read_recipe(run.folder / RECIPE)
    own = not is_ours(run.model)
    return Learned(dataset, records, FrozenBackbone(build_from(run), run.preprocess, audited, recipe, report, own=own))


def head_learned_all(run: Run) -> bool:
    """Whether its head was fitted on the validation images too, and measured by cross-validation."""
    return run.model.mode == "head" and bool(run.started()["splits"].get("test"))


def _out_of_fold(run: Run, report: Reporter) -> HeldOut:
    """What heads give for the images of the fold that they were not fitted on, as in training.

    Raises:
        InputError: the images have changed since, or they are too few.
    """
    from handlens.tasks.heads import fit_frozen_head

    learned = learned_images(run, report, what="cross-validation of a run of mode head")
    records = [*learned.records["train"], *learned.records["validation"]]  # in the order of training
    head = fit_frozen_head(TASKS[run.task].frozen(learned.dataset), learned.backbone, records, run.class_names)
    if head.out_of_fold is None:
        raise InputError(f"{counted(len(records), 'image')} are too few for cross-validation.")
    labels = np.array([record.label for record in records], dtype=np.int64)
    return HeldOut(tempered(head.out_of_fold, run.model.temperature), labels, OUT_OF_FOLD)
