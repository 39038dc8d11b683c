"""What a report says of a run beside how good it is: how it was made, how sure its numbers are, what it costs, its
exports, and how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.evaluation.paired import FEWEST_IMAGES, metric_interval
from handlens.figures import Scale
from handlens.flow.held_out import head_learned_all
from handlens.flow.labeled_images import TestImages
from handlens.reading.parsed import read_json
from handlens.reporter import Reporter
from handlens.runtimes.parity import is_report
from handlens.tasks import TASKS
from handlens.tasks.pieces import OUT_OF_FOLD, VALIDATION
from handlens.training.proved import proved_files
from handlens.training.run import DATA, DATA_CONFIG, RECIPE, Run

if TYPE_CHECKING:
    from handlens.data.labels.kind import Kind
    from handlens.tasks.pieces import Measure
    from handlens.tasks.task import Task

PLAIN_LAYOUT = "folders"  # of a data set, found without being named
MOST_CLASSES = 200  # of which intervals are listed: of more, nobody reads the table


def intervals_of(run: Run, measure: Measure, value: float | None, report: Reporter) -> dict[str, Any] | None:
    """As `evaluation.report.About.intervals`.

    Args:
        value: the task's metric, as it was measured.
    """
    task = TASKS[run.task]
    if value is None:
        return None
    found = metric_interval(measure.each(), step=report.steps("drawing samples of the images"))
    few = len(measure.records) < FEWEST_IMAGES

    def ends(scale: Scale, interval: tuple[float, float] | None) -> str | None:
        """None where all samples give one number, which says nothing of other images."""
        if few or interval is None or interval[0] == interval[1]:
            return None
        return f"{scale.value(interval[0])} to {scale.value(interval[1])}"

    rows = [
        {
            "class": name,
            "value": task.of_class.scale.value(None if one != one else float(one)),
            "interval": ends(task.of_class.scale, interval) or "–",
        }
        for name, one, interval in zip(run.class_names, found.classes, found.class_intervals, strict=True)
    ]
    return {
        "value": task.scale.value(value),
        "interval": ends(task.scale, found.interval),
        "draws": found.draws,
        "of_class": task.of_class.title,
        "rows": [] if few or len(rows) > MOST_CLASSES else rows,
    }


def provenance(run: Run) -> list[str]:
    """How the model was made, in sentences; nothing of weights that were not trained here."""
    model = run.model
    if model.recipe is None or model.data is None:
        return []
    name, weights = model.architecture.name, model.recipe.get("weights")
    began = f"It began with the weights {weights}"
    if not weights:
        given = model.architecture.arguments is None  # a module that was handed over, with whatever it held
        began = "It began with the weights that it was handed over with" if given else "It began with random weights"
    try:
        splits = {part: len(ids) for part, ids in run.started()["splits"].items()}
    except InputError as error:
        return [f"{name}, trained on {Path(model.data.root).name}. {began}.", f"How many images: {error}"]
    learned = splits.get("train", 0)
    if head_learned_all(run):
        learned += splits.get("validation", 0)
    parts = ", ".join(f"{part} {count:,}" for part, count in splits.items())
    how = "a linear layer was fitted to its features of" if model.mode == "head" else "it was trained on"
    return [
        f"{name}, trained on {Path(model.data.root).name} ({parts} images).",
        f"{began}; {how} {learned:,} images.",
    ]


def cost_of(run: Run, report: Reporter) -> tuple[list[tuple[str, str, str]], list[str]]:
    """As `evaluation.report.About.cost`, and sentences about what could not be counted or timed."""
    from handlens.flow.same_images import Compared
    from handlens.flow.side_costs import costs

    prepare = run.preprocess
    shown = [Compared(run, run.folder.name, run if run.folder.is_dir() else None)]
    shown += [
        Compared(Run(proved.path, run.model), proved.path.name, None)
        for proved in proved_files(run)
        if proved.runtime.installed
    ]
    found, notes = costs(shown, precision="auto", latency=True, report=report)
    rows = []
    if found[0].parameters is not None:
        rows.append(("Parameters", f"{found[0].parameters:,}", ""))
    if found[0].multiply_adds is not None:
        size = f"per image of {prepare.height} x {prepare.width} pixels"
        rows.append(("Multiply-adds", f"{found[0].multiply_adds / 1e6:,.1f} M", size))
    rows += [
        (
            "Engine of the run" if place == 0 else entry.name,
            f"{one.file_mb:.2f} MB",
            "" if one.latency_ms is None else f"{one.latency_ms:.2f} ms per image",
        )
        for place, (entry, one) in enumerate(zip(shown, found, strict=True))
    ]
    notes.append(
        "Latency: the median of one image on one thread of the machine that wrote this page, without decoding."
    )
    return rows, notes


def exports_of(run: Run) -> tuple[list[dict[str, Any]], list[str]]:
    """The parity reports of a run's exports, and sentences about those that cannot be shown."""
    found, unread = [], []
    for file in sorted((run.folder / "exports").glob("*.parity.json")):
        try:
            value = read_json(file)
        except InputError:
            value = None
        if is_report(value):
            found.append(value)
        else:
            unread.append(f"{file.name} is damaged or of an earlier version: export once more to have it shown here.")
    return found, unread


def commands(run: Run, test: TestImages, other: Mapping[str, str | None], *, costs: bool, heat: bool) -> list[str]:
    """That make the model and the page again, from the folder that holds the data and the folder of runs; no whole
    paths, for a page may be passed on.

    Args:
        other: options of `evaluate` by name, None where one was not given.
        costs, heat: the page has them.
    """
    name = _named(run) if run.model.pretrained is None else run.model.architecture.name
    options = [part for option, value in other.items() if value for part in (f"--{option}", value)]
    if costs and not heat and TASKS[run.task].shows_heat:
        options.append("--no-heat-maps")
    data = [] if test.own else [test.root.resolve().name]
    again = shlex.join(["handlens", "report" if costs else "evaluate", name, *data, *options])
    return [*train_command(run), again]


def _named(run: Run) -> str:
    """As it is reached from the folder that holds the folder of runs; elsewhere by its name alone."""
    folder = run.folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.parent.name == "runs" else folder.name


def train_command(run: Run) -> list[str]:
    """That trains the model again; none of weights that were not trained here, or were calibrated on other images."""
    source = run.model.chosen.get("calibration", {}).get("source", VALIDATION)
    if run.model.recipe is None or run.model.data is None or source not in (OUT_OF_FOLD, VALIDATION):
        return []
    name, data = _named(run), Path(run.model.data.root).name
    options = []
    if run.folder.is_dir():
        options += ["--data-config", f"{name}/{DATA_CONFIG}"] if run.config() else []
        layout = run.started()["format"] if (run.folder / DATA).is_file() else PLAIN_LAYOUT
        options += ["--format", layout] if layout != PLAIN_LAYOUT else []
    again = ["handlens", "train", data, "--recipe", f"{name}/{RECIPE}", *options, "--out", f"{name}-again"]
    return [shlex.join(again)]


def words_of(task: Task, kind: Kind) -> dict[str, str | None]:
    """As `evaluation.report.About.words`."""
    return {
        "counted": kind.unit.capitalize(),
        "total": kind.total,
        "compared": task.compared,
        "differs": task.differs,
        "tolerated": task.tolerated,
        "metric": task.metric_title,
    }
