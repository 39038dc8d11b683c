"""The command line: parses and prints, and has no logic of its own.

Exit codes: 0 fine, 1 findings, 2 usage, 3 an export answers differently, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handlens.errors import FindingsError, InputError, ParityError

if TYPE_CHECKING:
    from rich.console import Console

    from handlens.flow.report import Reporter

app = typer.Typer(
    name="handlens",
    help="From a folder of pictures to a small vision model that you can trust on a phone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
weights_app = typer.Typer(help="Pretrained weights: where they come from, and fetching them.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

Format = Annotated[
    str | None, typer.Option(help="How the data is laid out, where it cannot be recognised: docs/data.md.")
]
Config = Annotated[Path | None, typer.Option("--data-config", help="A handlens.yaml that is not beside the data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no sentences: answers and errors only.")]
Precision = Annotated[
    str, typer.Option(help="auto: what the processor is fastest at; fp32: as measured against PyTorch.")
]


@app.callback()
def root(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error; anywhere in a command.")] = False,
) -> None:
    """From a folder of pictures to a small vision model that you can trust on a phone."""


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="bakery: ten kinds of bread, drawn by handlens.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    task: Annotated[str, typer.Option(help="classify, segment or detect: folders, masks or boxes.")] = "classify",
    per_class: Annotated[int, typer.Option(min=1, help="Training pictures per class.")] = 40,
    test_per_class: Annotated[int, typer.Option(min=0, help="Test pictures per class.")] = 10,
    size: Annotated[int, typer.Option(min=32, max=2048, help="Pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    quiet: Quiet = False,
) -> None:
    """Write a sample data set of generated pictures."""
    from handlens import flow

    with _reporting(quiet) as report:
        made = flow.sample(
            name, folder, task=task, per_class=per_class, test_per_class=test_per_class, size=size, seed=seed,  # type: ignore[arg-type]
            report=report,
        )  # fmt: skip
    typer.echo(f"{made}: generated pictures, not photographs.")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A folder of pictures, with their labels or a table of them.")],
    labels: Annotated[bool, typer.Option("--labels", help="Also list pictures whose label the model doubts.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="With --labels: a picture of the doubted ones.")] = None,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Decode every picture and say what is wrong. Never changes a file. Exit code 1 on findings."""
    from handlens import flow

    if sheet and not labels:
        raise InputError("--sheet shows the doubted labels: give --labels too.")
    with _reporting(quiet or as_json) as report:
        audit = flow.check(data, format=format, config=config, report=report)
        doubted = flow.doubted_labels(audit, report=report) if labels else None
        unreached = flow.boxes_without_anchor(audit, report=report) if audit.dataset.task == "detect" else None
    if as_json:
        more = {"doubted_labels": doubted, "boxes_without_anchor": unreached}
        _print_json(audit.to_dict() | {key: value for key, value in more.items() if value is not None})
    else:
        from handlens.tables import print_audit, print_doubted

        print_audit(_console(), audit)
        for name, share in (unreached or {}).items():
            typer.echo(f"{name}: {100 * share:.1f} % of the training boxes have no anchor of the default detector.")
        if doubted is not None:
            print_doubted(_console(), doubted)
    if sheet and doubted:
        from handlens.flow.sheets import doubted_sheet

        typer.echo(doubted_sheet(audit, doubted, sheet), err=True)
    if any(finding.level in ("error", "warning") for finding in audit.findings):
        raise typer.Exit(1)


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="A folder of pictures, with their labels or a table of them.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=400, help="Pictures, drawn by lot.")] = 12,
    out: Annotated[Path, typer.Option(help="The contact sheet, PNG or JPEG.")] = Path("sheet.png"),
    split: Annotated[str | None, typer.Option(help="train, validation or test alone.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another number, other pictures.")] = 0,
    format: Format = None,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    """Draw a contact sheet of pictures with their labels, masks or boxes."""
    from handlens import flow

    with _reporting(quiet) as report:
        made = flow.show(
            data, count=count, out=out, split=split, seed=seed, format=format, config=config, report=report,  # type: ignore[arg-type]
        )  # fmt: skip
    typer.echo(str(made))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Pictures with masks or boxes, in any format that is read.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    to: Annotated[str, typer.Option(help="voc, coco or yolo for boxes; voc or masks for masks.")],
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a data set in another format, and say what that format cannot hold. Pictures are copied as they are."""
    from handlens import flow

    with _reporting(quiet or as_json) as report:
        lost = flow.convert(source, folder, to=to, format=format, config=config, report=report)
    if as_json:
        _print_json({"folder": str(folder), "lost": lost})
        return
    for sentence in lost:
        typer.echo(sentence)
    typer.echo(f"{folder}: written as {to}" + ("." if lost else ", and nothing was lost."))


@app.command()
def train(
    data: Annotated[
        Path | None, typer.Argument(help="A folder of pictures, with their labels or a table of them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default runs/<name of the data>.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML file; flags win over it.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this unfinished run.")] = None,
    mode: Annotated[str | None, typer.Option(help="auto, head, finetune or scratch.")] = None,
    model: Annotated[str | None, typer.Option(help="A net of the catalogue.")] = None,
    width: Annotated[float | None, typer.Option(help="Width multiplier.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A weights file of your own.")] = None,
    epochs: Annotated[int | None, typer.Option(help="For finetune and scratch.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its peak.")] = None,
    views: Annotated[int | None, typer.Option(help="Augmented views per picture, head mode.")] = None,
    workers: Annotated[int | None, typer.Option(help="Loader processes; default measured.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto or fp32.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings of the audit stop training too.")] = False,
    golden: Annotated[bool, typer.Option(help="Keep eight pictures and their answers in the run.")] = True,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier and write a run folder."""
    from handlens import flow
    from handlens.train.recipe import read_recipe

    made = None
    if resume is None:
        made = read_recipe(
            recipe, mode=mode, model=model, width=width, image_size=image_size, epochs=epochs, batch_size=batch_size,
            weights=str(weights) if weights else None, learning_rate=learning_rate, views=views, workers=workers,
            precision=precision, seed=seed,
        )  # fmt: skip
    with _reporting(quiet or as_json) as report:
        folder = flow.train(
            data, out=out, recipe=made, resume=resume, strict=strict, golden=golden, format=format, config=config,
            report=report,
        )  # fmt: skip
    if as_json:
        from handlens.train.run import open_run

        run = open_run(folder)
        _print_json({"run": str(folder), "validation": run.model["validation"]})


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained net.")],
    data: Annotated[Path | None, typer.Argument(help="Labelled pictures; default the run's own test split.")] = None,
    precision: Precision = "auto",
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a run on pictures it was not trained on, and write report.html."""
    from handlens import flow

    with _reporting(quiet or as_json) as report:
        result = flow.evaluate(run, data, precision=_precision(precision), format=format, config=config, report=report)
    if as_json:
        _print_json(result)
        return
    from handlens.tables import print_evaluation

    print_evaluation(_console(), result)


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained net.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures and folders of pictures.")],
    top: Annotated[int, typer.Option(min=1, help="Classes per picture.")] = 1,
    csv: Annotated[Path | None, typer.Option(help="Write a CSV (for spreadsheets, UTF-8 with BOM).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="Write copies with the answer into this folder.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Write class maps as PNG into this folder (segmentation).")] = None,
    coco: Annotated[Path | None, typer.Option(help="Write a COCO result list (detection).")] = None,
    yolo: Annotated[Path | None, typer.Option(help="Write YOLO texts into this folder (detection).")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest score (detection); default chosen on validation.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write one contact sheet (PNG or JPEG).")] = None,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Large pictures in overlapping windows at their own size (segmentation).")
    ] = False,
    precision: Precision = "auto",
    quiet: Quiet = False,
) -> None:
    """Classify, segment or detect, as the run was trained. Bad files are named on standard error and the rest goes on;
    exit code 1 then.
    """
    from handlens import flow
    from handlens.flow.sheets import SHEET_LIMIT, PredictionWriter
    from handlens.results import KINDS

    bad = 0
    lines_on_screen = sys.stdout.isatty() and (as_json or not csv)  # they are progress enough
    writer = None
    try:
        with _reporting(quiet or lines_on_screen) as report:
            opened = flow.find_run(run, report=report)
            predictions = flow.predict(
                opened, paths, precision=_precision(precision), threshold=threshold, tiles=tiles, report=report
            )  # fmt: skip
            writer = PredictionWriter(
                KINDS[opened.task], csv=csv, as_json=as_json, pictures=pictures, masks=masks, coco=coco, yolo=yolo,
                sheet=sheet, category_ids=opened.model.get("category_ids"), top=top, print_line=_print_line,
            )  # fmt: skip
            # The writer opens files, which a wrong path or an unknown run must leave as they are.
            with _reader_may_leave(), writer:
                for prediction in predictions:
                    if prediction.result is None:
                        bad += 1
                        typer.echo(f"handlens: {prediction.error}", err=True)
                    writer.write(prediction)
                    report.progress("predicting", writer.count, None)
    except KeyboardInterrupt:
        if writer and writer.partial:
            typer.echo(f"handlens: stopped; the {writer.count} answers so far are in {writer.partial}.", err=True)
        raise
    if not quiet and (csv or pictures or masks or coco or yolo or sheet):
        left_out = writer.count - bad - SHEET_LIMIT if sheet else 0
        cut = f" The sheet shows the first {SHEET_LIMIT}." if left_out > 0 else ""
        typer.echo(f"{writer.count} pictures, {bad} unreadable.{cut}", err=True)
    if bad:
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained net.")],
    to: Annotated[str, typer.Option(help="onnx or openvino.")],
    out: Annotated[Path | None, typer.Option(help="The file; default in the run's exports/.")] = None,
    data: Annotated[Path | None, typer.Option(help="Pictures for the proof; default the run's own.")] = None,
    with_resize: Annotated[
        bool, typer.Option("--with-resize", help="The graph takes any size and resizes inside.")
    ] = False,
    suppress: Annotated[
        bool, typer.Option("--suppress/--no-suppress", help="No: the app suppresses doubled boxes itself.")
    ] = True,
    pictures: Annotated[int, typer.Option(min=1, help="How many pictures the proof uses at most.")] = 1000,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Export for another runtime, and prove that the file answers as PyTorch does. Exit code 3 if it does not."""
    from handlens import flow

    with _reporting(quiet or as_json) as report:
        path, parity = flow.export(
            run, to=to, out=out, data=data, with_resize=with_resize, suppress=suppress,  # type: ignore[arg-type]
            pictures=pictures, report=report,
        )  # fmt: skip
    if as_json:
        _print_json({"file": str(path)} | parity.to_dict())
        return
    from handlens.tables import print_parity

    print_parity(_console(), parity)
    typer.echo(str(path))


@weights_app.command("list")
def weights_list(as_json: AsJson = False) -> None:
    """The pretrained weights, their licences and whether they are here."""
    from handlens.models.weights import listing

    rows = listing()
    if as_json:
        _print_json(rows)
        return
    from handlens.tables import print_rows

    print_rows(_console(), rows)


@weights_app.command("get")
def weights_get(name: Annotated[str, typer.Argument(help="As `weights list` names it.")], quiet: Quiet = False) -> None:
    """Fetch weights once, check them and keep them in the cache."""
    from handlens import flow
    from handlens.models.weights import get_weights

    with _reporting(quiet) as report:
        path = get_weights(name)
        flow.find_run(name, report=report)
    typer.echo(str(path))


def main() -> None:
    """The entry point of the command `handlens`."""
    code = run(sys.argv[1:])
    with _reader_may_leave():
        sys.stdout.flush()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: errors become one sentence on standard error."""
    from handlens.files import cache_folder

    # matplotlib keeps its list of fonts; left alone it would make a folder in the user's home.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    debug = "--debug" in arguments
    try:
        app([argument for argument in arguments if argument != "--debug"])
    except (InputError, ParityError) as error:
        if debug:
            raise
        typer.echo(f"handlens: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # permissions, a full disk, a share that went away
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = " There is no room left; what was saved before is whole." if full else ""
        typer.echo(f"handlens: {where}{error.strerror or error}.{hint}", err=True)
        return InputError.exit_code
    except SystemExit as done:  # how typer ends, also after wrong usage (2)
        return done.code if isinstance(done.code, int) else 0
    return 0


def _precision(value: str) -> Any:
    if value not in ("auto", "fp32"):
        raise InputError(f"--precision must be auto or fp32, got {value!r}.")
    return value


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Whoever reads our answers, `head` for example, may have enough of them: that is no error."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes there


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to fold to
    return console


@contextlib.contextmanager
def _reporting(quiet: bool) -> Iterator[Reporter]:
    """Sentences and a progress bar on standard error, or nothing."""
    from handlens.flow.report import QUIET, Reporter

    if quiet:
        yield QUIET
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Standard output is for answers: rich would print it among the bars, on standard error.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
    ) as bar:
        shown: dict[str, Any] = {}  # one bar: that of the task that goes on

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in shown:
                for task in shown.values():
                    bar.remove_task(task)
                shown.clear()
                shown[what] = bar.add_task(what, total=total)
            bar.update(shown[what], completed=done, total=total)

        yield Reporter(say=lambda text: console.print(text, markup=False, soft_wrap=True), progress=progress)


__all__ = ["FindingsError", "app", "main", "run"]
