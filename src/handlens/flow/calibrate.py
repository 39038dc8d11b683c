"""calibrate: how sure a classifier is against how often it is right, mended by one number, in a new run."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from handlens.data.labels.finding import counted
from handlens.errors import InputError, require
from handlens.files import cache_folder
from handlens.flow.engines import add_fastest
from handlens.flow.golden import expect_again
from handlens.flow.held_out import HeldOut, held_out, predicted
from handlens.flow.labeled_images import test_images
from handlens.flow.runs import build_from, find_run, write_run
from handlens.flow.same_images import Compared, seen_by
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.tasks import TASKS
from handlens.training.run import WEIGHTS, Run, files_of_run

CHANGED_BY = "-calibrated"
WHAT = "fitting the temperature"
# Within this of 1, no figure that is printed would change.
NOTHING = 0.01
# Of the likelihood ratio, chi-squared with one degree of freedom: where a temperature of 1 is right, it is below this
# in 19 of 20 cases (Wilks 1938).
CHANCE = 3.84
FEWEST = 20  # images; our choice


@shows_progress
def calibrate(
    run: Path | str | Run,
    data: Path | str | None = None,
    *,
    out: Path | str | None = None,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Fit the temperature of a classifier anew, and write a run that differs from this one by nothing else.

    What is made from a run, its exports and evaluations, is not copied.

    `train` has fitted one; this is for other images, such as those that the model meets where it is used, and for runs
    of earlier versions.

    Args:
        data: labeled images that the model has not learned from, of a data set with splits the validation images, or
            those to train on; None is the run's own: the validation images, or of mode head predictions by
            cross-validation.
        out: the new run folder; None is the run's name with "-calibrated".

    Returns:
        {"temperature", "factor", "images", "source", "ece": [before, after], "nll": [before, after], "run"}: the run's
        logits are divided by "factor", those of its training by "temperature"; "run" is None where nothing has to
        change: the cross-entropy "nll" falls by no more than chance. The error after is measured on the images that the
        temperature was fitted to.

    Raises:
        InputError: another task, no images, a model of one's own without a last linear layer, or `out` exists.
    """
    require("torch", extra="train", what="calibrate")
    from handlens.tasks.temperature import chosen_temperature, give_temperature, takes_temperature
    from handlens.training.saving import save_net

    run = find_run(run, report=report)
    task = TASKS[run.task]
    if not task.has_temperature:
        raise InputError(f"calibrate is available for single-label classification only; the task is {run.task}.")
    if data is None and run.model.data is None:
        raise InputError(f"{run.folder.name} has no images of its own; give labeled ones as DATA.")
    folder = _new_folder(run, out)
    net = build_from(run)
    if not takes_temperature(net, run.preprocess):
        raise InputError(f"{run.model.architecture.name} has no last layer torch.nn.Linear called classifier.")
    found = _found(run, data, format=format, config=config, report=report)
    if len(found.labels) < FEWEST:
        raise InputError(
            f"{counted(len(found.labels), 'image')} are too few for a temperature; give at least {FEWEST}."
        )
    chosen = chosen_temperature(found.probabilities, found.labels, found.source, present=run.model.temperature)
    factor, measured = chosen["temperature"], chosen["calibration"]
    result = {
        "temperature": factor * run.model.temperature,
        "factor": factor,
        "images": len(found.labels),
        "source": found.source,
        "ece": measured["ece"],
        "nll": measured["nll"],
        "run": None,
    }
    gained = result["nll"][0] - result["nll"][1]
    if abs(math.log(factor)) < NOTHING or 2 * result["images"] * gained < CHANCE:
        return result
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        new = Path(place) / "run"
        _copy(run, new)
        give_temperature(net, factor)
        save_net(net, new / WEIGHTS)
        expect_again(new, net, run.preprocess, task)
        model = run.model
        kept = {key: value for key, value in model.chosen.items() if key != "known_scores"}  # of the old temperature
        write_run(
            new,
            net,
            architecture=model.architecture,
            preprocess=run.preprocess,
            class_names=run.class_names,
            task=task,
            chosen={**kept, **chosen, "temperature": result["temperature"]},
            recipe=model.recipe,
            validation=model.validation,
            data=model.data,
            pretrained=model.pretrained,
        )
        new.rename(folder)
    add_fastest(folder, report=report)
    return result | {"run": str(folder)}


def _new_folder(run: Run, out: Path | str | None) -> Path:
    """
    Raises:
        InputError: it exists.
    """
    if out is not None:
        folder = Path(out)
    elif cache_folder().resolve() in run.folder.resolve().parents:  # published weights
        folder = Path("runs") / f"{run.folder.name}{CHANGED_BY}"
    else:
        place = run.folder.resolve()  # of "." too
        folder = (run.folder if run.folder.name else place).with_name(f"{place.name}{CHANGED_BY}")
    if os.path.lexists(folder):
        raise InputError(f"{folder} exists already; choose another --out.")
    return folder


def _copy(run: Run, folder: Path) -> None:
    """What a training leaves; nothing that is made from the weights, and nothing to resume from."""
    for name in files_of_run(run.folder):
        run.check(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.folder / name, folder / name)


def _found(run: Run, data: Path | str | None, *, format: str | None, config: Path | None, report: Reporter) -> HeldOut:
    """Predictions for images that the model has not learned from, as far as is known.

    Raises:
        InputError: it has learned from all of them.
    """
    if data is None:
        return held_out(run, report, what=WHAT)
    images = test_images(run, data, format=format, config=config, prefer="validation", count_learned=False)
    if images.own:
        return held_out(run, report, what=WHAT)
    seen = seen_by(Compared(run, run.folder.name, run), images)
    if seen is None:
        report.say(f"Whether {run.folder.name} was trained on some of these images is not known.")
    new = tuple(record for record in images.records if record.id not in (seen or ()))
    if not new:
        raise InputError(f"{run.folder.name} was trained on all of the images in {images.root}; give others.")
    if left := len(images.records) - len(new):
        report.say(f"{left} of the {len(images.records)} images are left out: {run.folder.name} has learned from them.")
    return predicted(run, replace(images, records=new), report, what=WHAT)
