"""models, summary, cost, plan, explain-layer: the available models and their cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from handlens.cli.int8 import print_predicted
from handlens.cli.shared import (
    AsJson,
    Options,
    Precision,
    Quiet,
    Split,
    Strips,
    app,
    console,
    known_precision,
    png,
    print_json,
    print_sentence,
    reporting,
)
from handlens.errors import InputError

CLASSES = 10  # of a design that is planned
# What `summary` and `cost` hand on themselves.
OWN_OPTIONS = (
    "name",
    "size",
    "sizes",
    "width",
    "widths",
    "num_classes",
    "split",
    "strips",
    "latency",
    "precision",
    "report",
)


@app.command()
def models(
    task: Annotated[str | None, typer.Option(help="Only this task: classify, segment or detect.")] = None,
    sort: Annotated[str, typer.Option(help="Sort by this column, such as parameters or multiply_adds.")] = "name",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the models with parameters and multiply-adds, at their published input size and number of classes."""
    from handlens.flow.nets import models as catalogue_rows

    with reporting(quiet or as_json) as report:
        rows = catalogue_rows(task=task, sort=sort, report=report)
    if as_json:
        print_json(rows)
        return
    from handlens.tables import print_rows

    terminal = console()
    hidden = {"weights", "converts_to"} | ({"about"} if terminal.width < 140 else set())  # --json has all
    print_rows(terminal, [{key: value for key, value in _readable(row).items() if key not in hidden} for row in rows])


@app.command()
def summary(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A name from `handlens models`, or a run folder.")],
    size: Annotated[
        int | None, typer.Option(help="Input height and width in pixels; default: as published, or as trained.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width multiplier, for models that have one.")] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes; default: as published, or as trained.")
    ] = None,
    option: Options = None,
    split: Split = 1,
    strips: Strips = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show a model layer by layer: shapes, parameters, multiply-adds, receptive field and activation memory."""
    import handlens

    options = _arguments(option) | ({} if width is None else {"width": width})
    with reporting(quiet or as_json) as report:
        found = handlens.summary(
            name, size=size, num_classes=classes, split=split, strips=strips, report=report, **options
        )
    if as_json:
        print_json(found)
        return
    from handlens.tables import print_summary

    print_summary(console(), found)


@app.command()
def cost(
    name: Annotated[str, typer.Argument(help="A name from `handlens models`; with --int8 also a run folder.")],
    sizes: Annotated[
        str, typer.Option(help="Input sizes: all (as published), a range 96..224 (step 32), or a list 96,160,224.")
    ] = "all",
    widths: Annotated[str, typer.Option(help="Width multipliers: all (as published), or a list 0.35,1.0.")] = "all",
    option: Options = None,
    split: Split = 1,
    strips: Strips = 1,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also measure the latency of one image on this machine.")
    ] = False,
    precision: Precision = "auto",
    int8: Annotated[
        bool, typer.Option("--int8", help="Predict what int8 costs in accuracy: of a pretrained model or a run.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Images for --int8, labeled or not; default: validation images of the run.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Images to calibrate --int8 with; default: training images, or some of --data.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show multiply-adds and memory in int8 by width and input size, beside published figures and the latency here."""
    from handlens.flow.nets import cost_table

    if int8:
        of_counting = {"--sizes": sizes != "all", "--widths": widths != "all", "--option": bool(option)}
        of_counting |= {
            "--split": split != 1,
            "--strips": strips != 1,
            "--latency": latency,
            "--precision": precision != "auto",
        }
        if given := [name for name, is_given in of_counting.items() if is_given]:
            raise InputError(f"cost --int8 takes the model as it is trained; omit {', '.join(given)}.")
        print_predicted(name, data=data, calibrate=calibrate, as_json=as_json, quiet=quiet)
        return
    if data is not None or calibrate is not None:
        raise InputError("--data and --calibrate belong to --int8.")
    chosen = None if widths == "all" else [_number(text, "--widths") for text in widths.split(",")]
    with reporting(quiet or as_json) as report:
        rows = cost_table(
            name,
            sizes=None if sizes == "all" else _sizes(sizes),
            widths=chosen,
            split=split,
            strips=strips,
            latency=latency,
            precision=known_precision(precision),
            report=report,
            **_arguments(option),
        )
    if as_json:
        print_json(rows)
        return
    from handlens.tables import print_rows

    filled = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    named = {"difference": "difference, millions"}
    print_rows(
        console(),
        [
            {named.get(key, key): value for key, value in _readable({key: row[key] for key in filled}).items()}
            for row in rows
        ],
    )


@app.command()
def plan(
    ram: Annotated[str | None, typer.Option(help="Memory for maps and bookkeeping in int8, such as 320kB.")] = None,
    flash: Annotated[str | None, typer.Option(help="Size of the file in int8, such as 1MB.")] = None,
    madds: Annotated[str | None, typer.Option(help="Multiply-adds per image, such as 30M.")] = None,
    latency: Annotated[
        str | None, typer.Option(help="Time per image, such as 20ms, as published for one big core of a Pixel 1.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task to plan for; default: what accuracies are published for.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help=f"Number of classes that will be trained; default: {CLASSES}.")
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(help="Compare this run by its measured accuracy, in place of published designs; repeatable."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy over multiply-adds and memory (PNG).", callback=png)
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the most accurate width, input size and split within a budget, and print the command that trains it."""
    from handlens.flow.plan import plan as find_plan
    from handlens.tables import print_plan

    if run and classes is not None:
        raise InputError("--classes is for published designs; a run has its own.")
    with reporting(quiet or as_json) as report:
        found = find_plan(
            ram=ram,
            flash=flash,
            madds=madds,
            latency=latency,
            task=task,
            num_classes=CLASSES if classes is None else classes,
            runs=run or (),
            plot=plot,
            report=report,
        )
    if as_json:
        print_json(found)
        return
    print_plan(console(), found)


@app.command()
def explain_layer(
    kind: Annotated[str, typer.Argument(help="conv, depthwise, separable, inverted_residual, dense or pool.")],
    inside: Annotated[int, typer.Option("--in", help="Input channels.")] = 32,
    outside: Annotated[
        int | None, typer.Option("--out", help="Output channels; default: 64, or --in for layers that keep them.")
    ] = None,
    kernel: Annotated[int, typer.Option("--kernel", "-k", help="Kernel size.")] = 3,
    stride: Annotated[int, typer.Option("--stride", "-s", help="Stride.")] = 1,
    padding: Annotated[str, typer.Option("--padding", "-p", help="Pixels per side, or same or valid.")] = "same",
    size: Annotated[
        int | None, typer.Option(help="Input height and width; default: 224, or 1 for a dense layer.")
    ] = None,
    expansion: Annotated[int, typer.Option("--expansion", "-t", help="Expansion factor of an inverted residual.")] = 6,
    bias: Annotated[bool, typer.Option("--bias", help="Add one bias per output channel.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the formulas of a layer step by step: output size, parameters, cost, savings of a separable convolution."""
    from dataclasses import asdict

    from handlens.formulas import KEEPS_CHANNELS, SYMBOLS, Question, explain

    pixels = int(padding) if padding.removeprefix("-").isdecimal() else padding
    if size is None:
        size = 1 if kind == "dense" else 224
    if outside is None:
        outside = inside if kind in KEEPS_CHANNELS else 64
    question = Question(
        inside=inside,
        outside=outside,
        kernel=kernel,
        stride=stride,
        padding=pixels,
        size=size,
        expansion=expansion,
        bias=bias,
    )
    steps = explain(kind, question)
    if as_json:
        print_json([asdict(step) for step in steps])
        return
    from handlens.tables import print_rows

    print_rows(
        console(),
        [{**asdict(step), "value": f"{step.value:,.6g}" if step.value % 1 else f"{step.value:,.0f}"} for step in steps],
    )
    print_sentence(f"{SYMBOLS}.")


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    millions = f"{row['multiply_adds'] / 1e6:,.1f} M"
    one_decimal = ("difference", "published_top1", "published_pixel1_ms", "ram_kB", "padding_kB", "ram_whole_kB")
    rounded = {key: _one_decimal(row[key]) for key in one_decimal if key in row}
    return row | rounded | {"parameters": f"{row['parameters']:,}", "multiply_adds": millions}


def _arguments(texts: list[str] | None) -> dict[str, Any]:
    """
    Raises:
        InputError: not name=value, or what has an option of its own.
    """
    from handlens.training.recipe_file import arguments

    found = arguments(texts or ())
    for name in found:
        if name in OWN_OPTIONS:
            raise InputError(f"--option cannot set {name}; the command has an option for it.")
    return found


def _one_decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _sizes(text: str) -> list[int]:
    """
    Raises:
        InputError: neither numbers with commas nor a range.
    """
    first, dots, last = text.partition("..")
    if dots and first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last):
        return list(range(int(first), int(last) + 1, 32))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--sizes must be integers separated by commas, or a range like 96..224, got {text!r}.")
    return [int(part) for part in parts]


def _number(text: str, option: str) -> float:
    try:
        return float(text)  # the model checks the value
    except ValueError:
        raise InputError(f"{option} must be numbers separated by commas, got {text!r}.") from None
