"""explain: what a model looked at, and what it looks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from handlens.cli.shared import AsJson, Quiet, app, print_note, print_while_read, reporting, whole_numbers
from handlens.data.labels.finding import counted
from handlens.errors import InputError
from handlens.names import as_json as json_line


@app.command()
def explain(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images and folders with images; none for --filters.")
    ] = None,
    why: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Explain this class; default: what was predicted.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Heat map: gradcam (default), layercam (default of detectors), gradcam++, scorecam or occlusion."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer by name, or by stride (s16); default: the last feature map before the head."),
    ] = None,
    activations: Annotated[
        bool, typer.Option("--activations", help="Show the channels of the layer instead, strongest first.")
    ] = False,
    filters: Annotated[
        bool, typer.Option("--filters", help="Show what the layer's channels look for instead: needs --layer.")
    ] = False,
    channels: Annotated[
        str | None, typer.Option(help="With --filters: channels, with commas; default: the first 16.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="With --filters: steps of gradient ascent.")] = 128,
    jitter: Annotated[int, typer.Option(min=0, help="With --filters: pixels of random shift before each step.")] = 8,
    blur: Annotated[float, typer.Option(min=0, max=50, help="With --filters: blur before each step, in pixels.")] = 0.0,
    natural_colors: Annotated[
        bool,
        typer.Option(
            "--natural-colors/--raw-pixels", help="With --filters: the spectrum and colors of photographs, or pixels."
        ),
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("explanations"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show why: heat maps over images, the channels of a layer, or what its filters look for."""
    from handlens.flow import explain as flow
    from handlens.flow.explain_pictures import write_activations, write_explanations, write_filters

    if activations and filters:
        raise InputError("choose --activations or --filters.")
    if activations and (why or method):
        raise InputError("--activations shows what a layer answers; omit --why and --method.")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out is the folder for the pictures; {out} is a file.")
    if filters:
        if images or why or method or layer is None:
            raise InputError("--filters needs --layer, and neither images, --why nor --method.")
        with reporting(quiet or as_json) as report:
            from handlens.explanation.filters import Ascent

            ascent = Ascent(steps=steps, jitter=jitter, blur=blur, natural_colors=natural_colors)
            found = flow.filters(
                run,
                layer=layer,
                channels=None if channels is None else whole_numbers(channels, "--channels"),
                ascent=None if ascent == Ascent() else ascent,
                report=report,
            )
            path = write_filters(found, out)
        _tell({"picture": str(path), "layer": found.layer, "channels": list(found.channels)}, str(path), as_json)
        return
    if not images:
        raise InputError("explain needs images, or --filters.")
    bad: list[str] = []
    with reporting(quiet or as_json) as report:
        if activations:
            answers = flow.activations(run, images, layer=layer, unreadable=bad, report=report)
            for file, one in write_activations(answers, out):
                dead = f"{len(one.dead)} of {len(one.maps)} channels are nowhere above 0 in the images up to this one"
                row = {"file": str(one.path), "picture": str(file), "layer": one.layer, "channels": len(one.maps)}
                _tell(row | {"dead": list(one.dead)}, f"{one.path}: {one.layer}, {dead}: {file}", as_json)
        else:
            empty = 0
            results = flow.explain(run, images, why=why, method=method, layer=layer, unreadable=bad, report=report)
            for picture, parts in write_explanations(results, out):
                empty += picture is None
                if picture is None:
                    continue
                rows = [{"title": one.title, "layer": one.layer, "box": one.box} for one in parts]
                line = f"{parts[0].path}: {', '.join(one.title for one in parts)}: {picture}"
                row = {
                    "file": str(parts[0].path),
                    "picture": str(picture),
                    "method": parts[0].method,
                    "explained": rows,
                }
                _tell(row, line, as_json)
            if empty:
                nothing = f"no {why}" if why else "nothing to explain"
                print_note(f"{counted(empty, 'image')} with {nothing}.")
    for sentence in bad:
        print_note(f"handlens: {sentence}")
    if bad:
        raise typer.Exit(1)


def _tell(row: dict[str, Any], line: str, as_json: bool) -> None:
    print_while_read(json_line(row) if as_json else line)
