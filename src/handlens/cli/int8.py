"""What int8 costs before it is exported: quantize-report, and the answer of `cost --int8`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from handlens.cli.shared import AsJson, Quiet, app, console, png, print_json, print_line, reporting
from handlens.figures import percent

if TYPE_CHECKING:
    from rich.console import Console


@app.command()
def quantize_report(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    to: Annotated[str, typer.Option(help="Runtime whose int8 is simulated: executorch, litert, onnx or openvino.")],
    setting: Annotated[
        str | None, typer.Option(help="One of the runtime's int8 settings; default: the one that is tried first.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Images to measure on; default: the run's own validation images.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Images to calibrate with; default: training images of the run.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Maximum number of images to measure on.")] = 16,
    layers: Annotated[int, typer.Option(min=1, help="Number of layers to list, the worst first.")] = 15,
    time: Annotated[
        bool, typer.Option("--time", help="Also write files with the worst layers in float, and time them in turn.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the error of every layer (PNG).", callback=png)] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show which layers int8 hurts, and what leaving them in float gives and costs. Simulated; no file is kept."""
    from handlens.flow.quantize_report import quantize_report as simulate

    with reporting(quiet or as_json) as report:
        found = simulate(
            run,
            to=to,
            setting=setting,
            data=data,
            calibrate=calibrate,
            images=images,
            time=time,
            plot=plot,
            report=report,
        )
    if as_json:
        print_json(found)
        return
    _print_quantize_report(console(), found, limit=layers)
    if plot is not None:
        print_line(str(plot))


def print_predicted(name: str, *, data: Path | None, calibrate: Path | None, as_json: bool, quiet: bool) -> None:
    """`cost --int8`."""
    from handlens.flow.survival import survival

    with reporting(quiet or as_json) as report:
        rows = survival(name, data=data, calibrate=calibrate, report=report)
    if as_json:
        print_json(rows)
    else:
        _print_survival(console(), rows)


def _print_survival(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """What int8 is predicted to cost, by runtime and setting."""
    from handlens.tables import print_rows

    words = {(True, True): "yes", (True, False): "probably", (False, False): "probably not", (False, True): "no"}
    shown = [
        {
            "runtime": row["runtime"],
            "setting": row["setting"],
            "changed": percent(row["changed"]) if row["changed"] is not None else None,
            "points_lost": None if row["drop"] is None else f"{100 * row['drop']:.1f}",
            "95 % interval": None
            if row["interval"] is None
            else f"{100 * row['interval'][0]:.1f} to {100 * row['interval'][1]:.1f}",
            "within 1 point": words.get((row["within"], row["sure"])),
            "counted": None if row["counted"] is None else f"{100 * row['counted']:.1f}",
        }
        for row in rows
    ]
    labeled = any(row["counted"] is not None for row in rows)
    print_rows(console, [row if labeled else {k: v for k, v in row.items() if k != "counted"} for row in shown])
    labels = " Counted: points lost on these images by their labels." if labeled else ""
    console.print(f"Predicted by simulation from {rows[0]['images']} images; an export measures it.{labels}")


def _print_quantize_report(console: Console, found: dict[str, Any], *, limit: int) -> None:
    """The layers that hurt most, then what leaving them in float gives and costs."""
    from handlens.tables import print_rows
    from handlens.tasks import TASKS

    task = TASKS[found["task"]]
    total, timed = sum(layer["multiply_adds"] for layer in found["layers"]), found["float32"]
    print_rows(
        console,
        [
            {
                "layer": layer["name"],
                "kind": layer["kind"],
                "noise": f"{100 * layer['noise']:.3f} %",
                "dB": _decibels(layer["signal_db"]),
                "changed": None if layer["changed"] is None else percent(layer["changed"]),
                "float: kB more": f"{layer['extra_bytes'] / 1e3:,.1f}",
                "multiply-adds": f"{100 * layer['multiply_adds'] / total:.1f} %",
            }
            for layer in found["layers"][:limit]
        ],
    )
    console.print(
        "Noise: of the output's power, with this layer alone (weights and what it makes) in int8; dB: signal to noise."
    )
    print_rows(
        console,
        [
            {
                "layers in float": row["layers"],
                "dB": _decibels(row["signal_db"]),
                "changed": None if row["changed"] is None else percent(row["changed"]),
                found["metric"] or "metric": None if row["score"] is None else task.bare(row["score"]),
                "kB more": f"{row['extra_bytes'] / 1e3:,.1f}",
                "multiply-adds in float": f"{100 * row['multiply_adds']:.1f} %",
            }
            | ({"MB": f"{row['mb']:.2f}", "ms": f"{row['ms']:.2f}"} if timed else {})
            for row in found["kept"]
        ],
    )
    reference = (
        "" if found["reference"] is None else f" In float, {found['metric']} is {task.bare(found['reference'])}."
    )
    time = (
        "MB and ms (median, one thread, in turn) are those of the runtime's own files; "
        f"in float32 {timed['mb']:.2f} MB and {timed['ms']:.2f} ms."
        if timed
        else "Multiply-adds stand for time; --time measures it."
    )
    console.print(
        f"Simulated as {found['to']} ({escape(found['setting'])}) on {found['images']} images.{reference} {time} "
        "Feature maps between int8 and float are rounded."
    )


def _decibels(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"
