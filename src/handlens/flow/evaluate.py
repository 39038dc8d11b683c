"""evaluate: the test pictures, read once, after everything was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.files import read_json, write_bytes, write_json
from handlens.flow.report import QUIET, Reporter
from handlens.flow.runs import build_from, find_run
from handlens.train.run import DATA, Run, kept_config, read_metrics, update_model_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlens.data.record import Dataset, Record
    from handlens.deploy.engines import Precision
    from handlens.preprocess import Preprocess

EXAMPLES = 24


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
        {"metrics", "pictures", "split", "data", "precision", "runtime", "unreadable", "report"}.

    Raises:
        InputError: the data has no labels, or classes that the run does not know.
    """
    import numpy as np

    from handlens.deploy.engines import OpenVINOEngine
    from handlens.deploy.graph_names import PROBABILITIES
    from handlens.deploy.stream import answers
    from handlens.evaluate.metrics import classification_metrics

    run = find_run(run, report=report)
    records, split, root, notes = test_records(run, data, format=format, config=config)
    for note in notes:
        report.say(note)
    engine = OpenVINOEngine(run.engine if preprocess is None else _converted(run, preprocess), precision=precision)
    used, rows, unreadable = [], [], []
    stream = answers([record.path for record in records], engine, preprocess=preprocess or run.preprocess)
    for done, (record, answer) in enumerate(zip(records, stream, strict=True), start=1):
        if answer.arrays is None:
            unreadable.append({"file": record.id, "reason": answer.error})
        else:
            used.append(record)
            rows.append(answer.arrays[PROBABILITIES])
        report.progress("evaluating", done, len(records))
    if not used:
        raise InputError(f"none of the {len(records)} pictures in {root} can be read; see handlens check {root}.")
    probabilities = np.stack(rows)
    labels = np.array([record.target for record in used], dtype=np.int64)
    result: dict[str, Any] = {
        "metrics": classification_metrics(probabilities, labels, run.class_names),
        "pictures": len(used), "split": split, "data": str(root), "precision": engine.precision,
        "runtime": engine.runtime, "unreadable": unreadable, "report": None,
    }  # fmt: skip
    if preprocess is None:
        result["report"] = str(_write(run, result, probabilities, labels, used, notes))
    return result


def _converted(run: Run, preprocess: Preprocess) -> Any:
    """The run's net as an OpenVINO model with another Preprocess inside, in memory."""
    from handlens.deploy.graph import DeployGraph
    from handlens.deploy.graph_names import PROBABILITIES
    from handlens.export.openvino import to_openvino

    return to_openvino(DeployGraph(build_from(run), preprocess), preprocess, output=PROBABILITIES)


def test_records(
    run: Run, data: Path | str | None, *, format: str | None, config: Path | None
) -> tuple[list[Record], str, Path, list[str]]:
    """The labelled records to measure a run on, their targets as indices into the run's classes.

    Returns:
        records, the split they are from ("all" where the data has none), the data's root, sentences.

    Raises:
        InputError: no data, no labels, or a class that the run does not know.
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
    records = [record for record in records if record.target is not None]
    if not records:
        raise InputError(f"{root} has no labelled pictures to evaluate on.")
    return _in_the_runs_classes(records, dataset, run, notes), split, root, notes


def _in_the_runs_classes(records: Sequence[Record], dataset: Dataset, run: Run, notes: list[str]) -> list[Record]:
    """Match classes by name; numbers that are no names are indices in the run's class order."""
    names = run.class_names
    if set(dataset.class_names) <= set(names):
        index = {i: names.index(name) for i, name in enumerate(dataset.class_names)}
    elif all(name.isdecimal() and int(name) < len(names) for name in dataset.class_names):
        notes.append("The labels are numbers: taken as indices in the model's class order.")
        index = {i: int(name) for i, name in enumerate(dataset.class_names)}
    else:
        unknown = [name for name in dataset.class_names if name not in names]
        raise InputError(
            f"the data has classes that the model does not know: {', '.join(unknown[:5])}; "
            f"it knows {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}."
        )
    return [replace(record, target=index[record.target]) for record in records if record.target is not None]


def _write(
    run: Run, result: dict[str, Any], probabilities: NDArray[np.float32], labels: NDArray[np.int64],
    records: Sequence[Record], notes: Sequence[str],
) -> Path:  # fmt: skip
    """metrics into model.json, evaluation.json, confusion.png and report.html into the run."""
    import numpy as np

    from handlens.evaluate import pictures
    from handlens.evaluate.errors import ranked
    from handlens.evaluate.report import write_report

    metrics = result["metrics"]
    names = run.class_names
    run = update_model_json(run, metrics={key: metrics[key] for key in ("top1", "top5", "loss", "count")})
    confusion = pictures.confusion_picture(np.array(metrics["confusion"]), names) if metrics["confusion"] else b""
    if confusion:
        write_bytes(run.folder / "confusion.png", confusion)
    order = ranked(probabilities, labels, [record.id for record in records])
    by_id = {record.id: record.path for record in records}
    rows = read_metrics(run.folder)
    stored = read_json(run.folder / DATA) if (run.folder / DATA).is_file() else {}
    parity = run.folder / "exports" / "parity.json"
    path = run.folder / "report.html"
    write_report(
        path,
        title=run.folder.resolve().name,
        model=run.model,
        metrics=metrics,
        dataset={"root": result["data"], "split": result["split"], "pictures": result["pictures"]},
        findings=stored.get("findings", []),
        curves=pictures.curves(rows) if len(rows) > 1 else None,
        confusion=confusion,
        reliability=pictures.reliability_picture(metrics["calibration"]["bins"]),
        examples={kind: _sheet(order[kind][:EXAMPLES], by_id, names) for kind in ("wrong", "right")},
        parity=read_json(parity) if parity.is_file() else None,
        notes=list(notes),
    )
    write_json(run.folder / "evaluation.json", result | {"report": path.name})
    return path


def _sheet(entries: Sequence[dict[str, Any]], paths: dict[str, Path], names: Sequence[str]) -> bytes | None:
    import io

    from PIL import Image

    from handlens.data.decode import decode
    from handlens.evaluate.pictures import contact_sheet

    if not entries:
        return None
    images = [decode(paths[entry["id"]], at_least=(160, 160)) for entry in entries]
    wrong = [entry["predicted"] != entry["label"] for entry in entries]
    captions = [
        f"{names[entry['predicted']]} {100 * entry['confidence']:.0f} %"
        + ("" if entry["predicted"] == entry["label"] else f" (is {names[entry['label']]})")
        for entry in entries
    ]
    out = io.BytesIO()
    Image.fromarray(contact_sheet(images, captions, wrong=wrong)).save(out, "JPEG", quality=85)
    return out.getvalue()
