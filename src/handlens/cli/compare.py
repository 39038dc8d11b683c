"""compare: is one model better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handlens.cli.shared import (
    AsJson,
    Config,
    Format,
    Precision,
    Quiet,
    app,
    console,
    known_precision,
    print_json,
    reporting,
)
from handlens.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from handlens.tasks.task import Task

CHANGED = 10  # images of a side
CLASSES = 20


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more run folders, names of pretrained models or exported files; each is compared with the "
            "first. Labeled images may come last: whatever is there and is no model.",
            metavar="RUN RUN... [DATA]",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Labeled images; default: the first run's test split, if all were trained on the same data."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write the page here (.html); default: comparisons/ in the first run.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Time the models on this machine.")] = True,
    precision: Precision = "auto",
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say whether one model is better than another, on the same images: 95 % intervals, and the images that differ."""
    import handlens
    from handlens.flow.same_images import runs_and_data

    models, images = runs_and_data(runs)
    if data is not None and images is not None:
        raise InputError(f"{images} is no model and --data gives the images: omit one of them.")
    with reporting(quiet or as_json) as report:
        found = handlens.compare(
            models,
            images if data is None else data,
            page=page,
            precision=known_precision(precision),
            latency=latency,
            format=format,
            config=config,
            report=report,
        )
    if as_json:
        print_json(found)
        return
    _print(console(), found)


def _print(terminal: Console, result: dict[str, Any]) -> None:
    """The models side by side, then each verdict with the classes and the images that changed sides."""
    from handlens.tables import escape, print_rows
    from handlens.tasks import TASKS

    task = TASKS[result["task"]]
    pairs = [None, *result["comparisons"]]
    print_rows(
        terminal,
        [
            {
                "": run["name"],
                task.metric_title: task.scale.value(run["value"]),
                "difference": None if pair is None else task.scale.number(pair["difference"]),
                "95 % interval": None if pair is None else task.scale.interval(pair["interval"]),
                "parameters": None if run["parameters"] is None else f"{run['parameters']:,}",
                "multiply_adds": None if run["multiply_adds"] is None else f"{run['multiply_adds'] / 1e6:,.1f} M",
                "MB": f"{run['file_mb']:.2f}",
                "latency_ms": None if run["latency_ms"] is None else f"{run['latency_ms']:.3g}",
            }
            for run, pair in zip(result["runs"], pairs, strict=True)
        ],
    )
    for pair in result["comparisons"]:
        terminal.print(f"\n[bold]{escape(pair['verdict'])}[/]")
        _print_sides(terminal, pair)
        _print_classes(terminal, pair, task)
    for note in result["notes"]:
        terminal.print(f"[yellow]note[/] {escape(note)}")
    for entry in result["unreadable"]:
        terminal.print(f"[yellow]left out[/] {escape(entry['reason'])}")
    terminal.print(f"Page: {escape(result['page'])}")


def _print_sides(terminal: Console, pair: dict[str, Any]) -> None:
    from handlens.evaluation.paired import MCNEMAR
    from handlens.tables import escape, print_rows

    test, outright = pair["test"], pair["test"]["test"] == MCNEMAR
    named = "McNemar's exact test" if outright else "sign test"
    verb = "is right" if outright else "does better"
    terminal.print(
        f"Only {escape(pair['first'])} {verb} on {test['only_first']} images, only {escape(pair['second'])} on "
        f"{test['only_second']}; {named}: p = {test['p']:.2g}."
    )
    for name, rows in ((pair["first"], pair["first_better"]), (pair["second"], pair["second_better"])):
        shown = [row for row in rows if "truth" in row][:CHANGED]
        if not shown:
            continue
        more = f", {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
        terminal.print(f"Images on which only {escape(name)} {verb}{more}:")
        print_rows(
            terminal,
            [{key: row[key] for key in ("file", "truth", "first", "second")} for row in shown],
            titles=_titles(pair),
        )


def _print_classes(terminal: Console, pair: dict[str, Any], task: Task) -> None:
    from handlens.tables import print_rows

    scale = task.of_class.scale
    rows = [row for row in pair["per_class"] if row["difference"] is not None]
    shown = sorted(rows, key=lambda row: -abs(row["difference"]))[:CLASSES]
    of = f", the {len(shown)} of {len(rows)} with the largest differences" if len(shown) < len(rows) else ""
    less = "" if task.of_class.higher else ", less is better"
    terminal.print(f"{task.of_class.title} of each class{less}{of}:")
    print_rows(
        terminal,
        [
            {
                "class": row["class"],
                "first": scale.value(row["first"]),
                "second": scale.value(row["second"]),
                "difference": scale.number(row["difference"]),
                "95 % interval": scale.interval(row["interval"]),
            }
            for row in (rows if len(rows) <= CLASSES else shown)
        ],
        titles=_titles(pair),
    )


def _titles(pair: dict[str, Any]) -> dict[str, str]:
    return {key: f"by {pair[key]}" for key in ("first", "second")}
