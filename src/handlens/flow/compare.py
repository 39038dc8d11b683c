"""compare: is one model better than another, on the same images?"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.labels.finding import images as counted_images
from handlens.errors import InputError
from handlens.flow.changed_sides import Side, changed_sides
from handlens.flow.comparison_files import write_beside, write_page
from handlens.flow.labeled_images import TestImages
from handlens.flow.same_images import (
    Compared,
    notes_on_seen,
    open_compared,
    seen_by,
    shared_images,
    without,
)
from handlens.flow.side_costs import costs
from handlens.prediction.predictor import Predictor
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.tasks import TASKS
from handlens.tasks.pieces import Measure
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.evaluation.paired import EachImage, Paired
    from handlens.runtimes.engine import Precision
    from handlens.tasks.task import Task


@dataclass(frozen=True)
class Measured:
    """One of the models on all images.

    Attributes:
        runtime, precision: what computed its predictions.
    """

    measure: Measure
    runtime: str
    precision: str


@shows_progress
def compare(
    runs: Sequence[Path | str | Run],
    data: Path | str | None = None,
    *,
    page: Path | str | None = None,
    precision: Precision = "auto",
    latency: bool = True,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Measure two or more models on the same labeled images, and say whether each is better than the first.

    Args:
        runs: run folders, names of pretrained models, or exported files, of one task and with the same classes.
        data: None is the data that all were trained on: the first run's test split, or else its validation split.
            Other data: its test split where it has one, or else all of it.
        page: a .html file for people. None is comparison.html in <first run>/comparisons/<the others>, where
            comparison.json and the sheets of changed images then lie too.
        precision: "auto" or "fp32", of what runs a run's own engine; beside an exported file "auto" is "fp32".
        latency: time the models on this machine.

    Returns:
        {"task", "metric", "data", "split", "images", "runs" (each: "name", "run", "value" of the metric as in
        `evaluate`, "seen" (images that it was trained on; None is not known), "runtime", "precision", "parameters",
        "multiply_adds", "file_mb", "latency_ms"), "comparisons" (each run after the first with the first: "first",
        "second", "difference" (second minus first), "interval" (95 %), "draws", "better" (a name, or None where nobody
        can tell), "verdict", "test" (McNemar's exact test, or the sign test where an image is not right or wrong),
        "per_class", "score" (what an image is judged by), "first_better", "second_better" (the images)), "notes",
        "unreadable", "missing", "page"}.

    Raises:
        InputError: fewer than two runs, runs that cannot be compared, or no labeled images that all may be measured on.

    The intervals are percentiles of a paired bootstrap over the images with a fixed seed (`evaluation.paired`).
    """
    if page is not None and Path(page).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--page must be a .html file, got {page}.")
    compared = open_compared(runs, report=report)
    test = shared_images(compared, data, format=format, config=config)
    seen = [seen_by(entry, test) for entry in compared]
    notes = [*test.notes, *notes_on_seen(compared, seen, len(test.records))]
    groups = len({record.group for record in test.records if record.group is not None})
    if groups:
        notes.append(
            f"The images are of {groups} groups; intervals take each image for independent and are too narrow."
        )
    for note in (f"{test.summary}.", *notes):
        report.say(note)
    if precision == "auto" and len({entry.run.folder.is_file() for entry in compared}) == 2:
        precision = "fp32"
        notes.append("Runs are computed and timed in float32, as their exports were compared with them.")
        report.say(notes[-1])
    task = TASKS[compared[0].run.task]
    measured, test, unreadable = _measured(compared, test, precision=precision, report=report)
    each = [entry.measure.each() for entry in measured]
    values = [entry.measure.metrics()[task.metric] for entry in measured]
    for entry, value in zip(compared, values, strict=True):
        if value is None:
            raise InputError(f"{task.metric_title} of {entry.name} is not defined on these images; give others.")
    from handlens.evaluation.paired import paired

    found = paired(each, step=report.steps("drawing samples of the images"))
    cost, more = costs(compared, precision=precision, latency=latency, report=report)
    notes += more
    comparisons, sides = [], []
    for place, pair in enumerate(found, start=1):
        both, images = (compared[0], compared[place]), (each[0], each[place])
        sides.append(changed_sides(both, images, test, precision=precision, report=report))
        comparison = _comparison(both, (values[0], values[place]), images, pair, sides[-1], task)
        verdict = _verdict(both, comparison["difference"], pair, (seen[0], seen[place]), task)
        comparisons.append(comparison | {"verdict": verdict})
    if len(comparisons) > 1:
        notes.append(
            f"Each interval is of one comparison: among {len(comparisons)}, one that excludes 0 by chance is likelier."
        )
    result: dict[str, Any] = {
        "task": task.name,
        "metric": task.metric,
        "data": str(test.root),
        "split": test.split,
        "images": len(test.records),
        "runs": [
            {
                "name": entry.name,
                "run": str(entry.run.folder),
                "value": value,
                "seen": None if ids is None else len(ids),
                "runtime": one.runtime,
                "precision": one.precision,
                **asdict(of_model),
            }
            for entry, value, ids, one, of_model in zip(compared, values, seen, measured, cost, strict=True)
        ],
        "comparisons": comparisons,
        "notes": notes,
        "unreadable": unreadable,
        "missing": list(test.missing),
    }
    if page is not None:
        return write_page(Path(page), result, sides, task)
    return write_beside(compared, result, sides, task)


def _measured(
    compared: Sequence[Compared], test: TestImages, *, precision: Precision, report: Reporter
) -> tuple[list[Measured], TestImages, list[dict[str, str]]]:
    """All models on the images that all can be measured on, those images, and the others with the reason."""
    unreadable: dict[str, str] = {}
    asked = test
    while True:
        found: list[Measured] = []
        for entry in compared:
            what = f"predicting with model {len(found) + 1} of {len(compared)}"
            one, failed = _predicted(entry, test, precision=precision, step=report.steps(what))
            unreadable |= failed
            test = without(test, set(failed))
            if not test.records:
                where = shlex.quote(str(asked.root))
                raise InputError(
                    f"none of the {len(asked.records)} images in {asked.root} can be read; see handlens check {where}."
                )
            if failed and found:  # the models before it were measured on more images
                break
            found.append(one)
        else:
            return found, test, [{"file": id, "reason": reason} for id, reason in unreadable.items()]


def _predicted(
    entry: Compared, test: TestImages, *, precision: Precision, step: Callable[[int, int], None]
) -> tuple[Measured, dict[str, str]]:
    """A model on the images, and the reasons why some of them cannot be measured."""
    task = TASKS[entry.run.task]
    predictor = Predictor(entry.run, precision=precision, threshold=task.evaluated_at)
    measure = task.measure(entry.run, test.kind)
    failed: dict[str, str] = {}
    predictions = predictor.predict(record.path for record in test.records)
    for done, (record, prediction) in enumerate(zip(test.records, predictions, strict=True), start=1):
        if prediction.result is None:
            failed[record.id] = prediction.error or f"{record.path} cannot be read."
        else:
            try:
                measure.add(record, prediction.result)
            except InputError as error:  # of its mask
                failed[record.id] = str(error)
        step(done, len(test.records))
    return Measured(measure, predictor.engine.runtime, predictor.engine.precision), failed


def _comparison(
    both: tuple[Compared, Compared],
    values: tuple[float, float],
    each: tuple[EachImage, EachImage],
    pair: Paired,
    changed: tuple[Side, Side],
    task: Task,
) -> dict[str, Any]:
    import numpy as np

    first, second = both
    whole = np.ones((1, len(each[0].scores)))
    classes = [[None if np.isnan(v) else float(v) for v in one.resampled(whole)[1][0]] for one in each]
    per_class = [
        {
            "class": name,
            "first": one,
            "second": other,
            "difference": None if one is None or other is None else other - one,
            "interval": None if one is None or other is None else pair.class_intervals[place],
        }
        for place, (name, one, other) in enumerate(zip(first.run.class_names, *classes, strict=True))
    ]
    return {
        "first": first.name,
        "second": second.name,
        "difference": values[1] - values[0],
        "interval": pair.interval,
        "draws": pair.draws,
        "better": {1: second.name, -1: first.name, 0: None}[pair.better],
        "test": asdict(pair.sides),
        "per_class": per_class,
        "class_metric": task.of_class.title,
        "score": each[0].title,
        "first_better": changed[0].images,
        "second_better": changed[1].images,
    }


def _verdict(
    both: tuple[Compared, Compared],
    difference: float,
    pair: Paired,
    seen: tuple[frozenset[str] | None, frozenset[str] | None],
    task: Task,
) -> str:
    from handlens.evaluation.paired import FEWEST_IMAGES

    name, count = both[1].name, counted_images(pair.images)
    change = f"{task.scale.change(difference)} of {task.metric_title}"
    within = f"95 % interval {task.scale.interval(pair.interval)}"
    if pair.better:
        verdict = f"{name} is {'better' if pair.better > 0 else 'worse'}: {change} ({within}, {count})"
    else:
        few = f"; at least {FEWEST_IMAGES} are needed" if pair.images < FEWEST_IMAGES else ""
        chance = f"; McNemar's test: p = {pair.sides.p:.2g}" if pair.sides.decides else ""
        verdict = (
            f"No significant difference with {count}{few}; {name} minus {both[0].name}: {change} ({within}{chance})"
        )
    if seen[0] == seen[1] or None in seen:
        return f"{verdict}."
    trained = " and ".join(f"{len(ids)} to train {entry.name}" for entry, ids in zip(both, seen, strict=True) if ids)
    return f"{verdict}. But it is no fair comparison: of the images, {trained} were used."
