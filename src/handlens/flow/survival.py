"""Will it survive? What int8 will cost, predicted in PyTorch before anything is exported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.decode import UnreadableImageError
from handlens.data.labels.finding import counted
from handlens.errors import InputError, require
from handlens.flow.calibration import calibration_images
from handlens.flow.judge import Judge, in_batches
from handlens.flow.runs import build_from, find_run
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.runtimes import RUNTIMES
from handlens.runtimes.int8 import Scheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.data.record import Dataset, Record
    from handlens.preprocess import Preprocess
    from handlens.tasks.task import Task

IMAGES = 200
CALIBRATION = 64  # of images that are not also measured on
MOST = 0.01  # of the metric: what --max-drop is by default
# After a training, which should not wait for it:
SECONDS = 2.5  # for all images
FEWEST, CALIBRATED_ON, ENOUGH = 16, 16, 48


@shows_progress
def survival(
    run: Path | str,
    *,
    data: Path | str | None = None,
    calibrate: Path | str | None = None,
    images: int = IMAGES,
    report: Reporter = QUIET,
) -> list[dict[str, Any]]:
    """A row for every int8 setting of the runtimes.

    Args:
        run: a run folder or the name of a pretrained model.
        data: images like those that the model will see, labeled or not; None is the run's own validation images.
        calibrate: as of `export`; None is the run's own training images, or else every other image of `data`.
        images: how many are measured on.

    Returns:
        "runtime", "setting", "images", "changed" (share of labels, pixels or boxes), "drop" (predicted, a fraction of
        the metric) with its 95 % "interval", "within" (whether no more than MOST) and "sure" (whether the whole
        interval says so), where the task can say; "counted" (the metric in float less that in the simulation), where
        there are labels; None where not.

    Raises:
        InputError: no such run, no images, or the net cannot be simulated.
    """
    require("torch", extra="train", what="the prediction of int8")
    from handlens.quantization.observe import observe
    from handlens.quantization.sensitivity import normalized, unfold
    from handlens.quantization.simulation import Simulation
    from handlens.training.optim import keep_freed_memory

    opened = find_run(run, report=report)
    settings = [(runtime, setting) for runtime in RUNTIMES.values() for setting in runtime.int8]
    own = opened.has_images
    if not own and data is None:
        raise InputError(
            f"int8 is predicted on images like those that {opened.folder.name} will see: give some with --data FOLDER, "
            "labeled or not."
        )
    net = build_from(opened)
    keep_freed_memory()
    shared = calibrate is None and not own  # no image is both calibrated with and measured on
    judge = Judge(opened, net, data=data, images=images, every_other=shared, report=report)
    if shared:
        calibration = _pixels(judge.spared, opened.preprocess, CALIBRATION)
    else:
        calibration = calibration_images(opened, None if calibrate is None else Path(calibrate))
    if not len(calibration):
        raise InputError(f"{data} has no images to calibrate int8 with; give some with --calibrate.")
    unfolded = unfold(net, normalized(calibration, opened.preprocess))
    observed = observe(unfolded, normalized(calibration, opened.preprocess))
    inputs = normalized(judge.pixels, opened.preprocess)
    simulation = Simulation(unfolded, observed, Scheme())
    simulation.keep_float(None)
    whole = judge.together(list(in_batches(simulation, inputs)))
    reference = judge.score(whole)
    found: dict[Scheme, dict[str, Any]] = {}
    rows = []
    for done, (runtime, setting) in enumerate(settings, start=1):
        report.progress("predicting int8", done, len(settings))
        if setting.scheme not in found:
            simulation = Simulation(unfolded, observed, setting.scheme)
            values = judge.together(list(in_batches(simulation, inputs)))
            predicted = judge.task.predicted_drop(values, whole)
            score = judge.score(values)
            found[setting.scheme] = {
                "images": len(inputs),
                "changed": judge.changed_labels(values, whole),
                "drop": predicted and predicted.drop,
                "interval": predicted and predicted.interval,
                "within": None if predicted is None else predicted.within(MOST),
                "sure": None if predicted is None else predicted.sure(MOST),
                "counted": None if score is None or reference is None else reference - score,
            }
        rows.append({"runtime": runtime.name, "setting": setting.name} | found[setting.scheme])
    return rows


def say_survival(task: Task, net: nn.Module, preprocess: Preprocess, dataset: Dataset, report: Reporter) -> None:
    """One sentence after a training, from a few training and validation images, in some seconds."""
    if not task.predicts_drop:
        return
    import numpy as np

    from handlens.quantization.observe import observe
    from handlens.quantization.sensitivity import normalized, unfold
    from handlens.quantization.simulation import Simulation

    calibration = _pixels(dataset.part("train"), preprocess, CALIBRATED_ON)
    measured = _pixels(dataset.part("validation") or dataset.part("train"), preprocess, ENOUGH)
    if not len(calibration) or not len(measured):
        return
    report.progress("predicting int8", 0, None)
    inputs = normalized(calibration, preprocess)
    try:
        unfolded = unfold(net, inputs)
    except InputError as error:
        report.say(f"No prediction of what int8 costs: {error}")
        return
    begin = time.perf_counter()
    observed = observe(unfolded, inputs)
    seconds = (time.perf_counter() - begin) / len(inputs)
    count = min(len(measured), max(FEWEST, int(SECONDS / (2 * seconds))))
    inputs = normalized(measured[np.linspace(0, len(measured) - 1, count).astype(int)], preprocess)  # of all classes
    simulation = Simulation(unfolded, observed, Scheme())

    def arrays() -> dict[str, NDArray[Any]]:
        made = task.last_step(net, simulation(inputs), suppress=True)
        parts = made if isinstance(made, tuple) else (made,)
        return {name: part.numpy() for name, part in zip(task.outputs, parts, strict=True)}

    values = arrays()
    simulation.keep_float(None)
    predicted = task.predicted_drop(values, arrays())
    assert predicted is not None
    low, high = predicted.interval
    report.say(
        f"int8 will probably cost about {100 * predicted.drop:.1f} points of {task.metric_title} (95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f}), predicted from {counted(predicted.images, 'image')}."
    )


def _pixels(records: Sequence[Record], preprocess: Preprocess, count: int) -> NDArray[np.uint8]:
    import numpy as np

    from handlens.runtimes.stream import load_pixels

    chosen = [records[int(i)] for i in np.linspace(0, len(records) - 1, min(count, len(records)))]
    found = []
    for record in chosen:
        try:
            found.append(load_pixels(record.path, preprocess)[0])
        except UnreadableImageError:  # the audit named it
            continue
    return (
        np.stack(found) if found else np.zeros((0, preprocess.height, preprocess.width, preprocess.channels), np.uint8)
    )
