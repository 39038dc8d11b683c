"""evaluate: the test images, read once, after everything was decided."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.evaluation.report import About
from handlens.files import write_json
from handlens.flow import trust_words
from handlens.flow.labeled_images import TestImages, test_images
from handlens.flow.report_parts import commands, cost_of, exports_of, intervals_of, provenance, words_of
from handlens.flow.runs import build_from, find_run
from handlens.prediction.engines import open_chosen
from handlens.prediction.predictor import Predictor
from handlens.reading.parsed import read_json
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.results import Prediction
from handlens.runtimes.engine import Engine
from handlens.runtimes.openvino.engine import OpenVINOEngine
from handlens.tasks import TASKS
from handlens.tasks.pieces import HeatMaps, Measure
from handlens.training.run import DATA, Run, locked, write_model_json

if TYPE_CHECKING:
    from handlens.preprocess import Preprocess
    from handlens.runtimes.engine import Precision

EVALUATION = "evaluation.json"
CIRCULAR = (
    "The thresholds of the sets were taken from these validation images: their coverage here says nothing. Give other "
    "labeled images as DATA to measure it."
)

CIRCULAR_UNKNOWN = (
    "Images of the classes are told by these validation images: how many of them are rejected here says nothing. Give "
    "other labeled images as DATA to measure it."
)


@shows_progress
def evaluate(
    run: Path | str | Run,
    data: Path | str | None = None,
    *,
    engine: str | None = None,
    precision: Precision = "auto",
    sets: float | None = None,
    unknown: float | None = None,
    heat_maps: bool = False,
    costs: bool = False,
    preprocess: Preprocess | None = None,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Measure a run or an exported file on labeled images it was not trained on; write report.html, return the numbers.

    Args:
        data: None is the data the run was trained from: its test split, or else its validation split; the result
            belongs to the run and stands in its model.json. Other data: its test split where it has one, or else all
            of it; the result stands in <run>/evaluations/<data>, of a file in <file>.evaluations/<data>.
        engine: a proved export for this runtime ("litert" ...) instead of the run's own engine.
        precision: "auto", "fp32", or "int8" for the run's proved int8 export.
        sets: also measure how often prediction sets of this level hold the truth, and their size (docs/sets.md).
        unknown: also measure how many of the images are taken for none of the classes, where at most this share should
            be (docs/unknown.md).
        heat_maps, costs: on the page, as `report` has them.
        preprocess: None is the run's own; another one is for experiments: the net is converted again with that
            normalization inside, and nothing is written into the run.

    Returns:
        {"task", "metrics", "images", "split", "data", "precision", "runtime", "unreadable", "missing", "report"}; with
        `sets` also "sets": {"asked", "coverage", "coverage_interval", "mean_size", "sizes", "count"}, with `unknown`
        also "unknown": {"asked", "rejected", "rejected_interval", "count", "accuracy_of_the_rest", "score", "auroc",
        "left_out"}.

    Raises:
        InputError: the data has no labels, or classes that the run does not know.
    """
    run = find_run(run, exported=True, report=report)
    task = TASKS[run.task]
    if preprocess is not None and (engine is not None or precision == "int8"):
        raise InputError("another preprocess is computed by the run's own engine in float; omit engine and int8.")
    if preprocess is not None and run.folder.is_file():
        raise InputError(f"{run.folder.name} has its preprocessing inside; give its run folder for another one.")
    limit = None
    if sets is not None:
        from handlens.flow.sets import limit_of, measure_sets, require_sets, says_nothing

        require_sets(run, sets, precision)
        limit = limit_of(run, sets, report)
    if unknown is not None:
        from handlens.flow.unknown import ask, circular, measure_unknown

        if preprocess is not None:
            raise InputError("another preprocess is for experiments; omit unknown.")
        asked = ask(run, unknown, engine=engine, precision=precision, report=report)
    heat = None
    if heat_maps and task.shows_heat:
        from handlens.flow.heat_maps import heat_maps_of

        heat = heat_maps_of(run, report)
    test = test_images(run, data, format=format, config=config)
    known = [CIRCULAR] if sets is not None and says_nothing(run, test) else []
    if unknown is not None and circular(run, test):
        known.append(CIRCULAR_UNKNOWN)
    test = replace(test, notes=(*test.notes, *known))
    for note in (f"{test.summary}.", *test.notes):
        report.say(note)
    other = "-".join(part for part in (engine, "int8" if precision == "int8" else None) if part)
    opened: Engine | None = None  # the run's own
    if preprocess is not None:
        opened = OpenVINOEngine(_converted(run, preprocess), precision=precision)
    elif other:
        opened = open_chosen(run, engine=engine, precision=precision)
    predictor = Predictor(run, precision=precision, engine=opened, preprocess=preprocess, threshold=task.evaluated_at)
    measure = task.measure(run, test.kind)
    unreadable = []
    taken: list[Prediction] = []  # where they are looked at once more
    predictions = predictor.predict(record.path for record in test.records)
    for done, (record, prediction) in enumerate(zip(test.records, predictions, strict=True), start=1):
        if prediction.result is None:
            unreadable.append({"file": record.id, "reason": prediction.error})
        else:
            try:
                measure.add(record, prediction.result)
                taken += [prediction] if sets is not None or unknown is not None else []
            except InputError as error:  # of its mask
                unreadable.append({"file": record.id, "reason": str(error)})
        report.progress("evaluating", done, len(test.records))
    if not measure.records:
        raise InputError(
            f"none of the {len(test.records)} images in {test.root} can be read; see handlens check "
            f"{shlex.quote(str(test.root))}."
        )
    result: dict[str, Any] = {
        "task": run.task,
        "metrics": measure.metrics(),
        "images": len(measure.records),
        "split": test.split,
        "data": str(test.root),
        "precision": predictor.engine.precision,
        "runtime": predictor.engine.runtime,
        "unreadable": unreadable,
        "missing": list(test.missing),
        "report": None,
    }
    if sets is not None and limit is not None:
        result["sets"] = measure_sets(
            [one.result for one in taken], [record.label for record in measure.records], sets, limit
        )
    if unknown is not None:
        result["unknown"] = measure_unknown(run, asked, measure.records, taken, precision=precision, report=report)
    if preprocess is None:
        with locked(run.evaluations if run.folder.is_file() else run.folder):
            options = {
                "engine": engine,
                "precision": "int8" if precision == "int8" else None,
                "sets": None if sets is None else f"{sets:g}",
                "unknown": None if unknown is None else f"{unknown:g}",
            }
            page = _Page(heat, costs, options)
            result["report"] = str(_write(run, result, measure, test, other, page, report))
    return result


def _converted(run: Run, preprocess: Preprocess) -> Any:
    """The run's net as an OpenVINO model with another Preprocess inside, in memory."""
    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.openvino.convert import to_openvino

    task = TASKS[run.task]
    graph = DeployGraph(build_from(run), preprocess, last_step=task.last_step)
    return to_openvino(graph, preprocess, outputs=task.outputs)


@dataclass(frozen=True)
class _Page:
    """What is on it.

    Attributes:
        options: of the command that makes it again.
    """

    heat: HeatMaps | None
    costs: bool
    options: Mapping[str, str | None]


def _write(
    run: Run, result: dict[str, Any], measure: Measure, test: TestImages, other: str, page: _Page, report: Reporter
) -> Path:
    """evaluation.json and report.html with its images; of the run's own data also the metrics into model.json.

    Args:
        other: the engine and precision that were asked for, where it is not the run's own; "" where it is.
    """
    metrics, task = result["metrics"], TASKS[run.task]
    own = test.own and not other
    if own:
        folder = run.folder
    else:
        names = [] if test.own else [test.root.resolve().name or "data"]
        folder = _folder_of_others(run, test.root, "-".join([*names, other] if other else names))
    path = folder / "report.html"
    stored = run.started() if (run.folder / DATA).is_file() else {}
    exports, unread = exports_of(run)
    cost, untimed = cost_of(run, report) if page.costs else ([], [])
    about = About(
        dataset={"root": result["data"], "split": result["split"], "images": result["images"]},
        findings=stored.get("findings", []),
        exports=exports,
        notes=[*test.notes, *unread, *untimed],
        intervals=intervals_of(run, measure, metrics[task.metric], report),
        trust=trust_words.sentences(result),
        provenance=provenance(run),
        cost=cost,
        commands=commands(run, test, page.options, costs=page.costs, heat=page.heat is not None),
        words=words_of(task, test.kind),
    )
    for said in _lost(folder, result, page):
        report.say(said)
    measure.write_report(path, run, metrics=metrics, about=about, heat=page.heat)
    write_json(folder / EVALUATION, result | {"report": path.name, "costs": page.costs})
    if own:  # last: it says what the page says
        write_model_json(run.folder, replace(run.model, metrics={key: metrics[key] for key in measure.kept}))
    return path


def _lost(folder: Path, result: Mapping[str, Any], page: _Page) -> list[str]:
    """What the page showed before this evaluation and does not after it, a sentence each."""
    if not (folder / EVALUATION).is_file():
        return []
    try:
        before = read_json(folder / EVALUATION)
    except InputError:  # damaged: it is replaced
        return []
    lost = ["heat maps and costs (handlens report)"] if before.get("costs") and not page.costs else []
    lost += [f"--{asked}" for asked in ("sets", "unknown") if before.get(asked) and not result.get(asked)]
    return [f"The page no longer shows {one}." for one in lost]


def _folder_of_others(run: Run, root: Path, name: str) -> Path:
    """<evaluations>/<name of the data and the engine>; of two data sets of one name, the second gets a number."""
    base = run.evaluations / name
    folder, number = base, 1
    while (folder / EVALUATION).is_file() and Path(read_json(folder / EVALUATION)["data"]).resolve() != root.resolve():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
