"""What int8 costs before it is exported: quantize-report, and the answer of `cost --int8`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handlens.cli.shared import AsJson, Quiet, app, console, print_json, print_line, reporting


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
    plot: Annotated[Path | None, typer.Option(help="Draw the error of every layer (PNG).")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show which layers int8 hurts, and what leaving them in float gives and costs. Simulated; nothing is exported."""
    from handlens.flow.quantize_report import quantize_report as simulate
    from handlens.tables import print_quantize_report

    with reporting(quiet or as_json) as report:
        found = simulate(
            run, to=to, setting=setting, data=data, calibrate=calibrate, images=images, plot=plot, report=report
        )
    if as_json:
        print_json(found)
        return
    print_quantize_report(console(), found, limit=layers)
    if plot is not None:
        print_line(str(plot))


def print_predicted(name: str, *, data: Path | None, calibrate: Path | None, as_json: bool, quiet: bool) -> None:
    """`cost --int8`."""
    from handlens.flow.survival import survival
    from handlens.tables import print_survival

    with reporting(quiet or as_json) as report:
        rows = survival(name, data=data, calibrate=calibrate, report=report)
    if as_json:
        print_json(rows)
    else:
        print_survival(console(), rows)
