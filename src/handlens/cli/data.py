"""sample, data get, check, show, convert: images and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handlens.cli.shared import AsJson, Config, Format, Quiet, app, console, print_json, reporting
from handlens.errors import InputError


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="bakery: ten kinds of bread, drawn by handlens.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    task: Annotated[
        str, typer.Option(help="classify, tag, segment or detect: folders, labels in a table, masks or boxes.")
    ] = "classify",
    per_class: Annotated[int, typer.Option(min=1, help="Training images per class.")] = 40,
    test_per_class: Annotated[int, typer.Option(min=0, help="Test images per class.")] = 10,
    size: Annotated[int, typer.Option(min=32, max=2048, help="Pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0)] = 0,
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
    typer.echo(f"{made}: generated images, not photographs.")


public = typer.Typer(no_args_is_help=True, help="Public data sets by name.", rich_markup_mode=None)
app.add_typer(public, name="data")


@public.command()
def get(
    name: Annotated[str, typer.Argument(help="As `handlens data list` names it.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="The published files, or their folder, in place of the network.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a public data set, verify it and lay it out for the other commands. A fetch that broke goes on."""
    from handlens.flow.data import get_data

    with reporting(quiet) as report:
        made = get_data(name, folder, source=source, report=report)
    typer.echo(str(made))


@public.command("list")
def list_sets(as_json: AsJson = False) -> None:
    """The public data sets, their licenses and where they come from."""
    from handlens.flow.data import public_sets

    rows = public_sets()
    if as_json:
        print_json(rows)
        return
    from handlens.tables import print_rows

    print_rows(console(), rows)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A folder of images, with their labels or a table of them.")],
    labels: Annotated[bool, typer.Option("--labels", help="Also list suspected label errors, by a model.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="With --labels: a contact sheet of them.")] = None,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Decode every image and say what is wrong. Never changes a file. Exit code 1 on findings."""
    import handlens
    from handlens.flow.data import examine, suspects

    if sheet and not labels:
        raise InputError("--sheet shows the suspected label errors: give --labels too.")
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
            typer.echo(found.sentence)
        if suspected is not None:
            print_suspects(console(), suspected)
    if sheet and suspected:
        from handlens.flow.sheets import suspects_sheet

        typer.echo(suspects_sheet(audit, suspected, sheet), err=True)
    if any(finding.level in ("error", "warning") for finding in audit.findings):
        raise typer.Exit(1)


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="A folder of images, with their labels or a table of them.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=400, help="Images, drawn by lot.")] = 12,
    out: Annotated[Path, typer.Option(help="The contact sheet, PNG or JPEG.")] = Path("sheet.png"),
    split: Annotated[str | None, typer.Option(help="train, validation or test alone.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another number, other images.")] = 0,
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
    typer.echo(str(made))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Images with masks or boxes, in any format that is read.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    to: Annotated[str, typer.Option(help="voc, coco or yolo for boxes; voc or masks for masks.")],
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a data set in another format, and say what that format cannot hold. Images are copied as they are."""
    import handlens

    with reporting(quiet or as_json) as report:
        lost = handlens.convert(source, folder, to=to, format=format, config=config, report=report)
    if as_json:
        print_json({"folder": str(folder), "lost": lost})
        return
    for sentence in lost:
        typer.echo(sentence)
    typer.echo(f"{folder}: written as {to}" + ("." if lost else ", and nothing was lost."))
