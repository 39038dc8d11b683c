"""similar: the images of a folder that are most alike to one, or alike among themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from handlens.cli.shared import (
    AsJson,
    Precision,
    Quiet,
    app,
    console,
    known_precision,
    print_json,
    print_note,
    print_sentence,
    reader_may_leave,
    reporting,
)
from handlens.errors import InputError

DEFAULT_TOP = 10


@app.command()
def similar(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[QUERY] FOLDER", help="An image, and the folder to search; with --duplicates the folder alone."
        ),
    ],
    top: Annotated[int | None, typer.Option(min=1, help=f"Number of images to list; default: {DEFAULT_TOP}.")] = None,
    duplicates: Annotated[
        float | None,
        typer.Option(help="List groups of images whose cosine similarity is at least this, such as 0.95."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a CSV file (UTF-8 with BOM, as spreadsheets expect).")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of what is listed (PNG or JPEG).")] = None,
    precision: Precision = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the images most similar to an image by the model's embedding, or groups of similar images (--duplicates).
    Unreadable files are reported and skipped; the exit code is then 1."""
    import handlens

    asked: dict[str, Any] = {"precision": known_precision(precision), "csv": csv, "sheet": sheet}
    given = " ".join(map(str, paths))
    with reporting(quiet or as_json) as report:
        if duplicates is None:
            if len(paths) != 2:
                raise InputError(
                    f"similar takes an image and a folder, or a folder with --duplicates THRESHOLD; got {given}."
                )
            found = handlens.similar(run, *paths, top=top or DEFAULT_TOP, report=report, **asked)
        else:
            if len(paths) != 1 or top is not None:
                wrong = "--top belongs to QUERY" if len(paths) == 1 else f"got {given}"
                raise InputError(f"--duplicates takes one folder, without QUERY and --top; {wrong}.")
            found = handlens.similar_groups(run, *paths, threshold=duplicates, report=report, **asked)
    for entry in found["unreadable"]:
        print_note(f"handlens: {entry['reason']}")
    with reader_may_leave():
        if as_json:
            print_json(found)
        else:
            _print(found)
    if sheet and not found.get("groups", True) and not quiet:
        print_note(f"{sheet} was not written: there are no groups.")
    if found["unreadable"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any]) -> None:
    """Neighbors by rank, or groups one below the other."""
    from handlens.tables import print_rows

    if "neighbors" in found:
        rows = [{"rank": rank} | one for rank, one in enumerate(found["neighbors"], start=1)]
        nothing = "No other image."
    else:
        rows = [{"group": number} | one for number, group in enumerate(found["groups"], start=1) for one in group]
        nothing = f"No two images with a similarity of at least {found['threshold']:g}."
    print_rows(console(), [row | {"similarity": f"{row['similarity']:.4f}"} for row in rows])
    if not rows:
        print_sentence(nothing)
