"""train: from a data set to a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError, require
from handlens.files import write_json, write_text
from handlens.flow.callbacks import with_callbacks
from handlens.flow.data import stop_on_findings
from handlens.flow.engines import add_fastest
from handlens.flow.golden import write_golden
from handlens.flow.job import SAVED, Job, learn
from handlens.flow.mode import choose_mode, require_a_batch, require_known, require_mode, say_unused
from handlens.flow.runs import machine, write_run
from handlens.flow.survival import say_survival
from handlens.flow.training_page import write_training_page
from handlens.reading.text import read_text
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.tasks import TASKS
from handlens.tasks.own_model import try_parts
from handlens.tasks.starting import begin
from handlens.training.model_info import TrainedOn
from handlens.training.run import (
    DATA,
    DATA_CONFIG,
    MODEL,
    RECIPE,
    WEIGHTS,
    kept_config,
    locked,
    read_started,
    unfinished,
)

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from handlens.data.check import Audit
    from handlens.data.record import Dataset
    from handlens.training.recipe import Mode, Recipe


@shows_progress
def train(
    data: Path | str | None = None,
    *,
    out: Path | str | None = None,
    recipe: Recipe | Mapping[str, Any] | None = None,
    mode: Mode | None = None,
    resume: Path | str | None = None,
    strict: bool = False,
    golden: bool = True,
    format: str | None = None,
    config: Path | None = None,
    callbacks: Sequence[Callback] = (),
    report: Reporter = QUIET,
) -> Path:
    """Train on a data set and write a run folder: a classifier, a segmenter or a detector, as its labels are.

    Args:
        data: as `open_dataset` takes it; with `resume`, None means the folder that the run was started with.
        out: the run folder, new or empty; None makes runs/<data>, runs/<data>-2 ...
        recipe: a Recipe, or its fields by name; None is the default recipe. Its model, loss and transform may be the
            caller's own (docs/python.md); with `resume`, only these are taken, where they cannot be imported.
        mode: the recipe's, in one word.
        resume: an unfinished run folder; its own recipe is used.
        strict: warnings of the audit stop training as well as errors.
        callbacks: of Lightning, for training by epochs; their state is saved and resumed with the run. The metrics of
            validation stand in trainer.callback_metrics as "validation_loss" and, for example, "validation_top1".
        golden: keep eight images and the expected answers in the run, for whoever ships it.

    Returns:
        The run folder.

    Raises:
        FindingsError: the data is not fit: nothing readable, one class.
        InputError: anything else that the caller can mend.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, everything saved; `resume` continues.
    """
    require("lightning", extra="train", what="train")
    from handlens.data import open_dataset
    from handlens.data.check import audit as look_through
    from handlens.data.config import FILE_NAME
    from handlens.training.recipe import Recipe
    from handlens.training.recipe_file import make_recipe, read_recipe

    asked = recipe.asked() if isinstance(recipe, Recipe) else dict(recipe or {})
    if resume is not None:
        folder = Path(resume)
        _require_unfinished(folder)
        recipe = read_recipe(folder / RECIPE).with_parts(make_recipe(asked))
        started = read_started(folder)
        data = Path(started["root"]) if data is None else Path(data)
        format, config = format or started["format"], config or kept_config(folder)
        report.say(f"Resuming {folder}.")
        if started["machine"] != machine():
            report.say(
                "The machine or package versions have changed since the run was started: resuming is not bit-identical."
            )
    elif data is None:
        raise InputError("train needs DATA, or --resume RUN.")
    elif (Path(data) / MODEL).is_file() and (Path(data) / RECIPE).is_file():
        raise InputError(
            f"{data} is a run, not a data set; give the folder of images. handlens evaluate {shlex.quote(str(data))} "
            "measures it."
        )
    else:
        folder = _new_run_folder(Path(data), out)
        recipe = make_recipe(asked | ({} if mode is None else {"mode": mode})).with_parts()
    require_known(recipe.model)
    recipe = with_callbacks(recipe, callbacks, resuming=resume is not None)

    dataset = open_dataset(data, format=format, config=config)
    report.say(f"{dataset.summary()}.")
    require_mode(recipe, TASKS[dataset.task])
    audit = look_through(dataset, progress=report.steps("checking"))
    for finding in audit.findings:
        report.say(f"{finding.level}: {finding.message}")
    stop_on_findings(audit, strict=strict)
    # Whatever is refused is refused before there is a folder.
    job = _prepared(folder, recipe, audit, resuming=resume is not None, callbacks=callbacks, report=report)
    kept = job.recipe.to_yaml()
    with locked(folder):
        # Only now is the folder ours: another training may have begun or ended in it since it was chosen.
        if resume is None:
            _require_empty(folder)
        else:
            _require_unfinished(folder)
        summary = _data_summary(Path(data), audit, job.dataset)
        if resume is None:  # from here on the run can be resumed
            stated = config or Path(data) / FILE_NAME
            write_json(folder / DATA, summary)
            write_text(folder / RECIPE, kept)
            if stated.is_file():
                write_text(folder / DATA_CONFIG, read_text(stated, "yaml"))
        elif read_started(folder)["fingerprint"] != summary["fingerprint"]:
            raise InputError(f"the images in {data} have changed since {folder} was started; start a new run.")
        try:
            _train(job, summary, golden=golden)
        except KeyboardInterrupt as stop:
            if unfinished(folder):
                saved = "everything is saved" if stop.args == (SAVED,) else "progress since the last checkpoint is lost"
                report.say(f"Stopped, and {saved}. Continue with: handlens train --resume {shlex.quote(str(folder))}")
            raise
    add_fastest(folder, report=report)
    write_training_page(folder, job.dataset.kind)
    return folder


def _prepared(
    folder: Path, recipe: Recipe, audit: Audit, *, resuming: bool, callbacks: Sequence[Callback], report: Reporter
) -> Job:
    """What is trained, on what, and from where; nothing is written.

    Raises:
        InputError: the model, its weights, or what the recipe asks for does not fit the data or one another.
    """
    from handlens.data.seeds import seed_torch
    from handlens.data.split import split_dataset

    dataset = split_dataset(audit.usable(), validation=recipe.validation, seed=recipe.seed, together=audit.duplicates)
    task = TASKS[dataset.task]
    images = len(dataset.part("train"))
    if not dataset.part("validation"):
        raise InputError("no image is left for validation: all images are copies of one another, or in one group.")
    report.say(f"{images} training images, {len(dataset.part('validation'))} validation images.")
    recipe = choose_mode(recipe, task, images, report)
    if not resuming:
        say_unused(recipe, task, report)
    seed_torch(recipe.seed)
    start = begin(task, recipe, dataset, report)
    if start.weights is not None:  # kept, so that a resumed run starts from the same wherever it goes on
        recipe = recipe.model_copy(update={"weights": start.weights})
    require_a_batch(start.net, recipe, task, images)
    try_parts(task, recipe, dataset, start.net, start.preprocess)
    report.say(f"Input: {start.preprocess.height} x {start.preprocess.width} pixels (height x width).")
    return Job(folder, task, recipe, audit, dataset, start, callbacks, report)


def _train(job: Job, summary: dict[str, Any], *, golden: bool) -> Path:
    """
    Args:
        summary: data.json.
    """
    from handlens.training.saving import save_net

    folder, task, dataset, start, report = job.folder, job.task, job.dataset, job.start, job.report
    outcome = learn(job)
    chosen = outcome.chosen or task.choose(start.net, start.preprocess, dataset, folder, report)
    if chosen:
        report.say(task.chosen(chosen))
    task.finish(start.net, dataset, chosen)
    save_net(start.net, folder / WEIGHTS)
    if golden:
        write_golden(folder, start.net, start.preprocess, dataset)
    write_run(
        folder,
        start.net,
        architecture=start.architecture,
        preprocess=start.preprocess,
        class_names=dataset.class_names,
        task=task,
        chosen=chosen,
        backbone=outcome.backbone,
        recipe=job.recipe.stated(),
        validation=outcome.validation,
        data=TrainedOn(
            root=summary["root"],
            fingerprint=summary["fingerprint"],
            counts=summary["counts"],
            unreadable=len(job.audit.unreadable),
        ),
    )
    measured = task.shown(outcome.validation[task.metric])
    say_survival(task, start.net, start.preprocess, dataset, report)
    report.say(f"Validation: {measured} ({outcome.validation['how']}). Run folder: {folder}")
    return folder


def _data_summary(data: Path, audit: Audit, dataset: Dataset) -> dict[str, Any]:
    from handlens.data.findings import contents_fingerprint

    parts = {split: dataset.part(split) for split in dataset.splits()}
    return {
        "root": str(data.resolve()),
        "task": dataset.task,
        "format": dataset.format,
        "fingerprint": audit.fingerprint(),
        "class_names": list(dataset.class_names),
        "counts": {split: dataset.class_counts(records) for split, records in parts.items()},
        "splits": {split: [record.id for record in records] for split, records in parts.items()},
        "fingerprints": {
            split: contents_fingerprint({record.id: audit.digests[record.id] for record in records})
            for split, records in parts.items()
        },
        "unreadable": [{"file": name, "reason": reason} for name, reason in audit.unreadable],
        "findings": [{"level": f.level, "code": f.code, "message": f.message} for f in audit.findings],
        "notes": list(dataset.notes),
        "machine": machine(),
    }


def _new_run_folder(data: Path, out: Path | str | None) -> Path:
    if out is not None:
        folder = Path(out)
        _require_empty(folder)
        return folder
    name = data.resolve().name
    for number in range(1, 10_000):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise InputError("runs/ has too many runs of this name; use --out.")


def _require_empty(folder: Path) -> None:
    if unfinished(folder):
        raise InputError(f"{folder} contains an unfinished run; resume it with --resume {folder}.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a run needs a folder. Choose another --out.")
    if folder.exists() and any(entry.name != ".lock" for entry in folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose another --out.")


def _require_unfinished(folder: Path) -> None:
    if (folder / MODEL).is_file():
        raise InputError(f"{folder} is finished and cannot be resumed.")
    if not unfinished(folder):
        raise InputError(f"{folder} cannot be resumed: it has no {RECIPE} or no {DATA}.")
