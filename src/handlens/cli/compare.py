"""compare: is one model better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    from handlens.tables import print_comparison

    print_comparison(console(), found)
