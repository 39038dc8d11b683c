"""forecast: how many more images are needed."""

from __future__ import annotations

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
    png,
    print_json,
    reporting,
    whole_numbers,
)


@app.command()
def forecast(
    data: Annotated[Path, typer.Argument(help="Folder with images and their labels (docs/data.md).")],
    target: Annotated[
        float | None,
        typer.Option(help="Percent of the metric to be reached; default: half of the present error."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Further numbers of images to predict the metric for, with commas.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML file with hyperparameters (docs/recipe.md).")] = None,
    model: Annotated[str | None, typer.Option(help="A name from `handlens models`.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Input size in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curve, what was measured and the interval (PNG).", callback=png)
    ] = None,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Forecast how many more images a target needs, from heads fitted on growing shares of the images."""
    import handlens
    from handlens.tables import print_forecast
    from handlens.training.recipe_file import read_recipe

    made = read_recipe(recipe, model=model, image_size=image_size, seed=seed)
    with reporting(quiet or as_json) as report:
        found = handlens.forecast(
            data,
            target=target,
            images=[] if images is None else whole_numbers(images, "--images"),
            recipe=made,
            plot=plot,
            format=format,
            config=config,
            report=report,
        )
    if as_json:
        print_json(found)
        return
    print_forecast(console(), found)
