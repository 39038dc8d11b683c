"""sample, data get, check, show, convert: images and their labels."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from handlens.cli.shared import (
    AsJson,
    Config,
    Format,
    Quiet,
    app,
    console,
    print_json,
    print_note,
    print_sentence,
    reporting,
)
from handlens.errors import InputError


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="bakery: generated drawings of ten kinds of bread.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    task: Annotated[
        str,
        typer.Option(help="classify, tag (multi-label), regress (numbers), segment (masks) or detect (boxes)."),
    ] = "classify",
    per_class: Annotated[
        int, typer.Option(min=1, help="Training images per class; of the other tasks ten times as many in all.")
    ] = 40,
    test_per_class: Annotated[
        int, typer.Option(min=0, help="Test images per class; of the other tasks ten times as many in all.")
    ] = 10,
    size: Annotated[int, typer.Option(min=32, max=2048, help="Image height and width in pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the drawings.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write a sample data set of generated images."""
    import handlens

    with reporting(quiet) as report:
        made = handlens.sample(
            name,
            folder,
            task=task,
            per_class=per_class,
            test_per_class=test_per_class,
            size=size,
            seed=seed,
            report=report,
        )
    print_sentence(f"{made}: generated images, not photographs. Next: handlens train {shlex.quote(str(made))}")


public = typer.Typer(no_args_is_help=True, help="Public data sets by name.", rich_markup_mode=None)
app.add_typer(public, name="data")


@public.command()
def get(
    name: Annotated[str, typer.Argument(help="A name from `handlens data list`.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A folder with the published files, or one file, instead of downloading."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Download a public data set and verify it. An interrupted download resumes."""
    from handlens.flow.data import get_data

    with reporting(quiet) as report:
        made = get_data(name, folder, source=source, report=report)
    print_sentence(str(made))


@public.command("list")
def list_sets(as_json: AsJson = False) -> None:
    """List the public data sets with their licenses and sources."""
    from handlens.flow.data import public_sets

    rows = public_sets()
    if as_json:
        print_json(rows)
        return
    from handlens.tables import print_rows

    print_rows(console(), rows)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Folder with images and their labels (docs/data.md).")],
    labels: Annotated[
        bool, typer.Option("--labels", help="Also list suspected label errors, found by a model.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="With --labels: write a contact sheet of them (PNG or JPEG).")
    ] = None,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Decode every image and report problems. Never changes a file. Exit code 1 on errors or warnings."""
    import handlens
    from handlens.flow.data import examine, suspects

    if sheet and not labels:
        raise InputError("--sheet shows the suspected label errors and needs --labels.")
    if sheet:
        from handlens.flow.sheets import MOST_SUSPECTS, sheet_format, suspects_sheet

        sheet_format(sheet)  # refused before minutes of decoding
    with reporting(quiet or as_json) as report:
        audit = handlens.check(data, format=format, config=config, report=report)
        suspected = suspects(audit, report=report) if labels else None
        found = examine(audit, report=report)
    if as_json:
        more = {} if suspected is None else {"suspected_label_errors": suspected}
        print_json(audit.to_dict() | more | (found.values if found else {}))
    else:
        from handlens.tables import print_audit, print_suspects

        print_audit(console(), audit)
        if found is not None:
            print_sentence(found.sentence)
        if suspected is not None:
            print_suspects(console(), suspected)
    if sheet and suspected:
        cut = f": the likeliest {MOST_SUSPECTS} of {len(suspected)}" if len(suspected) > MOST_SUSPECTS else ""
        print_note(f"{suspects_sheet(audit, suspected, sheet)}{cut}")
    elif sheet:
        print_note(f"{sheet} was not written: no label is suspected.")
    if any(finding.level in ("error", "warning") for finding in audit.findings):
        raise typer.Exit(1)


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="Folder with images and their labels (docs/data.md).")],
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=400, help="Number of images, chosen at random.")
    ] = 12,
    out: Annotated[Path, typer.Option(help="Output file, PNG or JPEG.")] = Path("sheet.png"),
    split: Annotated[str | None, typer.Option(help="Only this split: train, validation or test.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the choice.")] = 0,
    format: Format = None,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    """Draw a contact sheet of images with their labels, masks or boxes."""
    import handlens

    with reporting(quiet) as report:
        made = handlens.show(
            data,
            count=count,
            out=out,
            split=split,  # type: ignore[arg-type]
            seed=seed,
            format=format,
            config=config,
            report=report,
        )
    print_sentence(str(made))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Images with masks or boxes, in any supported format.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    to: Annotated[str, typer.Option(help="Target format: voc, coco or yolo for boxes; voc or masks for masks.")],
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Convert a data set to another format and report what that format cannot store. Images are copied unchanged."""
    import handlens

    with reporting(quiet or as_json) as report:
        lost = handlens.convert(source, folder, to=to, format=format, config=config, report=report)
    if as_json:
        print_json({"folder": str(folder), "lost": lost})
        return
    for sentence in lost:
        print_sentence(sentence)
    print_sentence(f"{folder}: written as {to}" + ("." if lost else ", nothing was lost."))
