"""evaluate: the test pictures, read once, after everything was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.deploy.engines import OpenVINOEngine
from handlens.errors import InputError
from handlens.files import read_json, write_json
from handlens.flow.measure import Measure, measure_for
from handlens.flow.report import QUIET, Reporter
from handlens.flow.runs import build_from, find_run
from handlens.predict.predictor import Predictor
from handlens.train.run import DATA, Run, kept_config, update_model_json

if TYPE_CHECKING:
    from handlens.data.record import Dataset, MaskCoding, Record
    from handlens.deploy.engines import Precision
    from handlens.preprocess import Preprocess


def evaluate(
    run: Path | str | Run,
    data: Path | str | None = None,
    *,
    precision: Precision = "auto",
    preprocess: Preprocess | None = None,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Measure a run on labelled pictures it was not trained on, write report.html and return the numbers.

    Args:
        data: None is the data the run was trained from: its test split, or else its validation split.
            Other data: its test split where it has one, or else all of it.
        preprocess: None is the run's own; another one is for experiments: the net is converted again with that
            normalisation inside, and nothing is written into the run.

    Returns:
        {"task", "metrics", "pictures", "split", "data", "precision", "runtime", "unreadable", "report"}.

    Raises:
        InputError: the data has no labels, or classes that the run does not know.
    """
    run = find_run(run, report=report)
    test = test_pictures(run, data, format=format, config=config)
    for note in test.notes:
        report.say(note)
    engine = OpenVINOEngine(run.engine if preprocess is None else _converted(run, preprocess), precision=precision)
    predictor = Predictor(run, engine=engine, preprocess=preprocess, threshold=0.0)
    measure = measure_for(run, test.coding)
    unreadable = []
    predictions = predictor.predict(record.path for record in test.records)
    for done, (record, prediction) in enumerate(zip(test.records, predictions, strict=True), start=1):
        if prediction.result is None:
            unreadable.append({"file": record.id, "reason": prediction.error})
        else:
            measure.add(record, prediction.result)
        report.progress("evaluating", done, len(test.records))
    if not measure.records:
        raise InputError(f"none of the {len(test.records)} pictures in {test.root} can be read; try handlens check.")
    result: dict[str, Any] = {
        "task": run.task, "metrics": measure.metrics(), "pictures": len(measure.records), "split": test.split,
        "data": str(test.root), "precision": engine.precision, "runtime": engine.runtime,
        "unreadable": unreadable, "report": None,
    }  # fmt: skip
    if preprocess is None:
        result["report"] = str(_write(run, result, measure, test.notes))
    return result


def _converted(run: Run, preprocess: Preprocess) -> Any:
    """The run's net as an OpenVINO model with another Preprocess inside, in memory."""
    from handlens.deploy.graph import DeployGraph
    from handlens.deploy.graph_names import OUTPUTS
    from handlens.export.openvino import to_openvino

    graph = DeployGraph(build_from(run), preprocess, task=run.task)
    return to_openvino(graph, preprocess, outputs=OUTPUTS[run.task])


@dataclass(frozen=True)
class TestPictures:
    """Labelled pictures to measure a run on, their labels as indices into the run's classes.

    Attributes:
        split: which part of the data they are; "all" where the data has none.
        coding: of masks, into the run's classes.
        notes: sentences for people.
    """

    records: list[Record]
    split: str
    root: Path
    coding: MaskCoding | None
    notes: list[str]


def test_pictures(run: Run, data: Path | str | None, *, format: str | None, config: Path | None) -> TestPictures:
    """
    Raises:
        InputError: no data, no labels, labels for another task, or a class that the run does not know.
    """
    from handlens.data import open_dataset

    notes: list[str] = []
    own = data is None
    if data is None:
        if "data" not in run.model:
            raise InputError(f"{run.folder.name} was not trained here and has no data of its own; name DATA.")
        data = run.model["data"]["root"]
    root = Path(data)
    own = own or root.resolve() == Path(run.model.get("data", {}).get("root", ""))
    if own:  # read as for training
        started = read_json(run.folder / DATA)
        format, config = format or started["format"], config or kept_config(run.folder)
    dataset = open_dataset(root, format=format, config=config)
    if dataset.task != run.task:
        raise InputError(f"{run.folder.name} was trained to {run.task}, and {root} is data to {dataset.task}.")
    split = "all"
    records: Sequence[Record] = dataset.records
    if own:
        splits = started["splits"]
        split = "test" if splits.get("test") else "validation"
        if split == "validation":
            notes.append("There is no test split: these are the validation pictures, which picked the weights.")
        wanted = set(splits.get(split, []))
        records = [record for record in dataset.records if record.id in wanted]
    elif "test" in dataset.splits():
        split, records = "test", dataset.part("test")
    records = [r for r in records if r.target is not None or r.mask is not None or r.boxes is not None]
    if not records:
        raise InputError(f"{root} has no labelled pictures to evaluate on.")
    index = _run_classes(dataset, run, notes)
    coding = None
    if dataset.coding is not None:
        coding = dataset.coding.renumbered(index)
    return TestPictures([_renumbered(record, index) for record in records], split, root, coding, notes)


def _run_classes(dataset: Dataset, run: Run, notes: list[str]) -> dict[int, int]:
    """The data's class index -> the run's: matched by name; numbers that are no names are the run's own indices."""
    names = run.class_names
    if set(dataset.class_names) <= set(names):
        return {i: names.index(name) for i, name in enumerate(dataset.class_names)}
    if all(name.isdecimal() and int(name) < len(names) for name in dataset.class_names):
        notes.append("The labels are numbers: taken as indices in the model's class order.")
        return {i: int(name) for i, name in enumerate(dataset.class_names)}
    unknown = [name for name in dataset.class_names if name not in names]
    raise InputError(
        f"the data has classes that the model does not know: {', '.join(unknown[:5])}; "
        f"it knows {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}."
    )


def _renumbered(record: Record, index: dict[int, int]) -> Record:
    target = None if record.target is None else index[record.target]
    boxes = None if record.boxes is None else tuple(replace(box, label=index[box.label]) for box in record.boxes)
    return replace(record, target=target, boxes=boxes)


def _write(run: Run, result: dict[str, Any], measure: Measure, notes: Sequence[str]) -> Path:
    """metrics into model.json, evaluation.json, and report.html with its pictures into the run."""
    metrics = result["metrics"]
    run = update_model_json(run, metrics={key: metrics[key] for key in measure.kept})
    path = run.folder / "report.html"
    stored = read_json(run.folder / DATA) if (run.folder / DATA).is_file() else {}
    parity = run.folder / "exports" / "parity.json"
    measure.write_report(
        path, run, dataset={"root": result["data"], "split": result["split"], "pictures": result["pictures"]},
        metrics=metrics, findings=stored.get("findings", []),
        parity=read_json(parity) if parity.is_file() else None, notes=list(notes),
    )  # fmt: skip
    write_json(run.folder / "evaluation.json", result | {"report": path.name})
    return path
