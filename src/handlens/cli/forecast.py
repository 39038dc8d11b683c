"""forecast: how many more images are needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handlens.cli.shared import (
    AsJson,
    Config,
    Format,
    ImageSize,
    Model,
    Quiet,
    Seed,
    app,
    console,
    png,
    print_json,
    reporting,
    whole_numbers,
)

if TYPE_CHECKING:
    from rich.console import Console

CLASSES = 20  # rows of the table of classes


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
    model: Model = None,
    image_size: ImageSize = None,
    seed: Seed = None,
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


def print_forecast(terminal: Console, found: dict[str, Any]) -> None:
    """What was measured and what is predicted by number of images, the classes that gain, then the sentences."""
    from handlens.figures import percent
    from handlens.tables import escape, print_rows
    from handlens.tasks import TASKS

    task = TASKS[found["task"]]
    print_rows(
        terminal,
        [
            {
                "images": f"{row['images']:,}",
                f"{task.metric_title},_measured": None if row["measured"] is None else task.bare(row["measured"]),
                "predicted": task.bare(row["predicted"]),
                "95_%_interval": " to ".join(task.bare(end) for end in row["interval"]),
            }
            for row in found["table"]
        ],
    )
    print_rows(
        terminal,
        [
            {
                "class": row["class"],
                "adds_to_error": percent(row["error"], 2),
                "still_falls": percent(row["falling"], 2),
                "share_of_what_falls": percent(row["share"], 0),
            }
            for row in found["classes"][:CLASSES]
        ],
    )
    for sentence in found["sentences"]:
        terminal.print(escape(sentence))
