"""weights: the pretrained weights, and getting them."""

from __future__ import annotations

from typing import Annotated

import typer

from handlens.cli.shared import AsJson, Quiet, app, console, print_json, print_sentence, reporting
from handlens.errors import require

weights_app = typer.Typer(help="List and download pretrained weights.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("list")
def weights_list(as_json: AsJson = False) -> None:
    """List the pretrained weights with their licenses, and whether they are cached."""
    from handlens.weights import listing

    rows = listing()
    if as_json:
        print_json(rows)
        return
    from handlens.tables import print_rows

    print_rows(console(), [row | {"MB": None if row["MB"] is None else f"{row['MB']:.1f}"} for row in rows])


@weights_app.command("get")
def weights_get(
    name: Annotated[str, typer.Argument(help="A name from `handlens weights list`.")], quiet: Quiet = False
) -> None:
    """Download pretrained weights, verify their checksum and store them in the cache."""
    require("torch", extra="train", what="weights")
    from handlens.flow.runs import find_run
    from handlens.models.pretrained import get_weights

    with reporting(quiet) as report:
        path = get_weights(name, progress=report.progress)
        find_run(name, report=report)
    print_sentence(str(path))
