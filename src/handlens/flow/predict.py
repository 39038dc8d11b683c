"""load and predict, and the outputs of predictions, without torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.errors import InputError
from handlens.flow.runs import find_run
from handlens.flow.sinks import annotated_copies, contact_sheet, csv_table, json_lines, text_lines
from handlens.prediction.engines import open_chosen
from handlens.prediction.predictor import Predictor
from handlens.reporter import QUIET, Reporter
from handlens.results import Prediction
from handlens.tasks import TASKS
from handlens.tasks.sinks import Shown, Sink, Table
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.runtimes.engine import Precision

FEW = 8  # up to so many images, answering the first one soon matters more than images per second
COUNTED = 100_000  # files: a second is spent on counting so many, and nobody waits for more


def load(run: Path | str | Run, *, engine: str | None = None, precision: Precision = "auto") -> Predictor:
    """A predictor: `load("runs/breads")("photo.jpg").label`. Does not import torch.

    Args:
        engine, precision: as of `predict`.
    """
    found = find_run(run, exported=True)
    return Predictor(found, engine=open_chosen(found, engine=engine, precision=precision, latency=True))


def predict(
    run: Path | str | Run,
    paths: Iterable[Path | str],
    *,
    engine: str | None = None,
    precision: Precision = "auto",
    threshold: float | None = None,
    tiles: bool = False,
    sets: float | None = None,
    unknown: float | None = None,
    report: Reporter = QUIET,
) -> Iterator[Prediction]:
    """Predict files and folders: one Prediction per image, in order, streaming.

    Args:
        paths: files and folders; a folder is walked, sorted by name, and what is no image is skipped.
        engine: "executorch", "litert", "onnx" or "openvino": the run's engine or a proved export of it. None is the
            fastest that `handlens bench RUN` has measured on this machine, else the run's own engine.
        precision: "auto" is what the processor is fastest at, "fp32" what was measured against PyTorch, "int8" the
            run's proved int8 export.
        threshold: lowest score, of detection, or lowest probability of a label where there may be several; None is
            the run's own, chosen on validation.
        tiles: segment large images in overlapping windows at their own size.
        sets: each result is a `ClassSet`, whose classes hold the truth with this probability (docs/sets.md).
        unknown: each result is a `KnownClasses`, which says whether the image looks like none of the classes; of images
            of the classes, at most this share is taken for that (docs/unknown.md).

    Raises:
        InputError: at once, before the first image: no such run, none of the paths exists, or no image in them.
    """
    from handlens.data import walk

    named = [Path(path) for path in paths]
    if not any(path.exists() for path in named):
        raise InputError(f"not found: {', '.join(map(str, named[:5]))}.")
    files = walk(named)
    first = list(itertools.islice(files, FEW + 1))
    if not first:
        raise InputError(f"no images in {', '.join(map(str, named[:5]))}.")
    run = find_run(run, exported=True, report=report)
    if threshold is not None and not TASKS[run.task].has_threshold:
        raise InputError(
            f"a threshold applies to detection and multi-label models; the task of {run.folder.name} is {run.task}."
        )
    if sets is not None and unknown is not None:
        raise InputError("sets and unknown cannot be asked for together.")
    if tiles and unknown is not None:
        raise InputError("tiles are available for segmentation only, and unknown for classification.")
    limit = asked = None
    if sets is not None:
        from handlens.flow.sets import limit_of, require_sets, with_sets

        require_sets(run, sets, precision)
        limit = limit_of(run, sets, report)
    if unknown is not None:
        from handlens.flow.unknown import ask, recognized, recognized_by_probabilities

        asked = ask(run, unknown, engine=engine, precision=precision, report=report)
    in_order = itertools.chain(first, files)
    if asked is not None and asked.recognition is not None:
        predictions = recognized(run, asked, in_order, precision=precision, report=report)
    else:
        opened = open_chosen(run, engine=engine, precision=precision, latency=len(first) <= FEW, report=report)
        predictions = Predictor(run, engine=opened, threshold=threshold, tiles=tiles).predict(in_order)
        if asked is not None:
            predictions = recognized_by_probabilities(run, asked, predictions)
    counted = len(first) if len(first) <= FEW else sum(1 for _ in itertools.islice(walk(named), COUNTED + 1))
    total = counted if counted <= COUNTED else None
    if limit is not None:
        predictions = with_sets(predictions, run.task, limit)
    return _reported(predictions, total=total, report=report)


def _reported(predictions: Iterator[Prediction], *, total: int | None, report: Reporter) -> Iterator[Prediction]:
    for done, prediction in enumerate(predictions, start=1):
        yield prediction
        report.progress("predicting", done, total)


@contextmanager
def writing(
    run: Run,
    *,
    csv: Path | None = None,
    annotate: Path | None = None,
    sheet: Path | None = None,
    of_task: Mapping[str, Path] | None = None,
    as_json: bool = False,
    top: int = 1,
    sets: bool = False,
    unknown: bool = False,
    print_line: Callable[[str], None] = print,
) -> Iterator[Callable[[Prediction], None]]:
    """Opens outputs and gives the function that writes a prediction to all of them.

    Args:
        csv: a file. annotate: a folder for copies with the answer on them. sheet: a file for one contact sheet.
        of_task: paths of the outputs of `Task.sinks`, by option.
        as_json: one JSON object per line to `print_line`; otherwise, without a csv, text with tabs.
        top: classes per image.
        sets, unknown: the predictions were made with them.

    Raises:
        InputError: the run's task has no such output, or an output refuses its path; nothing was written then.
    """
    task, asked = TASKS[run.task], dict(of_task or {})
    own = task.sinks(run)
    for option in asked.keys() - own.keys():
        others = " or ".join(other.name for other in TASKS.values() if option in other.sinks(run))
        raise InputError(f"--{option} needs a model whose task is {others}; that of {run.folder.name} is {task.name}.")
    files: list[Sink] = [contact_sheet(sheet)] if sheet else []  # closed last: the others are in place by then
    files += [make(asked[option]) for option, make in own.items() if option in asked]
    files += [annotated_copies(annotate)] if annotate else []
    kind = (sets and task.set_result) or (unknown and task.known_result) or task.result
    tables: list[Table] = [csv_table(csv, kind, top=top)] if csv else []
    if as_json or not csv:
        tables.append((json_lines if as_json else text_lines)(print_line, top=top))
    with ExitStack() as stack:
        to_files = [stack.enter_context(sink) for sink in files]
        to_tables = [stack.enter_context(table) for table in tables]
        places = itertools.count(start=1)

        def write(prediction: Prediction) -> None:
            place = next(places)
            for note in to_tables:
                note(prediction)
            if prediction.result is not None:
                image = Shown(prediction.path, place, prediction.result)
                for add in to_files:
                    add(image)

        yield write
