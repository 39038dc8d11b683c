"""train, evaluate, report, predict: the commands that write or read a run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from handlens.cli.shared import (
    AsJson,
    Config,
    Engine,
    Format,
    ImageSize,
    Model,
    Options,
    PrecisionOfFiles,
    Quiet,
    Seed,
    app,
    console,
    known_precision,
    print_json,
    print_line,
    print_note,
    print_while_read,
    reader_may_leave,
    reporting,
)


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help="Folder with images and their labels (docs/data.md).")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default: runs/<name of the data folder>.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="YAML file with hyperparameters (docs/recipe.md); options override it.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Resume this unfinished run.")] = None,
    mode: Annotated[
        str | None, typer.Option(help="auto, head (linear layer on a frozen backbone), finetune or scratch.")
    ] = None,
    model: Model = None,
    width: Annotated[float | None, typer.Option(help="Width multiplier.")] = None,
    image_size: ImageSize = None,
    option: Options = None,
    weights: Annotated[
        Path | None, typer.Option(help="Your own weights file, instead of the published weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs (finetune and scratch).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    augmented_copies: Annotated[int | None, typer.Option(help="Augmented copies per image (head mode).")] = None,
    workers: Annotated[int | None, typer.Option(help="Data loader processes; default: chosen by measurement.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto (bf16 on CPUs with native bf16) or fp32.")] = None,
    seed: Seed = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop on data warnings, not only on errors.")] = False,
    golden: Annotated[bool, typer.Option(help="Store eight images and their predictions in the run.")] = True,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a model and write a run folder. The labels decide the task: classes, numbers, masks or boxes."""
    import handlens
    from handlens.training.recipe_file import arguments, read_recipe

    made = None
    if resume is None:
        made = read_recipe(
            recipe,
            mode=mode,
            model=model,
            width=width,
            image_size=image_size,
            options=arguments(option or ()) or None,
            epochs=epochs,
            batch_size=batch_size,
            weights=str(weights) if weights else None,
            learning_rate=learning_rate,
            augmented_copies=augmented_copies,
            workers=workers,
            precision=precision,
            seed=seed,
        )
    with reporting(quiet or as_json) as report:
        folder = handlens.train(
            data,
            out=out,
            recipe=made,
            resume=resume,
            strict=strict,
            golden=golden,
            format=format,
            config=config,
            report=report,
        )
    if as_json:
        from handlens.training.run import open_run

        run = open_run(folder)
        print_json({"run": str(folder), "validation": run.model.validation})


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    data: Annotated[Path | None, typer.Argument(help="Labeled images; default: the run's test split.")] = None,
    engine: Engine = None,
    precision: PrecisionOfFiles = "auto",
    sets: Annotated[
        float | None, typer.Option(help="Also measure prediction sets of this level, such as 0.95 (docs/sets.md).")
    ] = None,
    unknown: Annotated[
        float | None,
        typer.Option(help="Also measure how many images are rejected as none of the classes (docs/unknown.md)."),
    ] = None,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a run on its test split or other labeled data, and write report.html."""
    import handlens

    with reporting(quiet or as_json) as report:
        result = handlens.evaluate(
            run,
            data,
            engine=engine,
            precision=known_precision(precision, int8=True),
            sets=sets,
            unknown=unknown,
            format=format,
            config=config,
            report=report,
        )
    _print_evaluation(result, as_json)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    data: Annotated[Path | None, typer.Argument(help="Labeled images; default: the run's test split.")] = None,
    heat_maps: Annotated[
        bool, typer.Option(help="Show what speaks for the predicted and the true class (classifiers; needs PyTorch).")
    ] = True,
    engine: Engine = None,
    precision: PrecisionOfFiles = "auto",
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a run and write its report.html with heat maps, parameters, sizes and latencies."""
    import handlens

    with reporting(quiet or as_json) as reporter:
        result = handlens.report(
            run,
            data,
            heat_maps=heat_maps,
            engine=engine,
            precision=known_precision(precision, int8=True),
            format=format,
            config=config,
            report=reporter,
        )
    _print_evaluation(result, as_json)


def _print_evaluation(result: dict[str, Any], as_json: bool) -> None:
    from handlens.tables import print_evaluation

    if as_json:
        print_json(result)
    else:
        print_evaluation(console(), result)


@app.command()
def predict(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    paths: Annotated[list[Path], typer.Argument(help="Images and folders with images.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to report per image.")] = 1,
    csv: Annotated[Path | None, typer.Option(help="Write a CSV file (UTF-8 with BOM, as spreadsheets expect).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per image.")] = False,
    annotate: Annotated[
        Path | None, typer.Option(help="Write copies of the images with the predictions drawn on them to this folder.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Write predicted masks as PNG to this folder (segmentation).")
    ] = None,
    coco: Annotated[Path | None, typer.Option(help="Write COCO results JSON (detection).")] = None,
    yolo: Annotated[Path | None, typer.Option(help="Write YOLO label files to this folder (detection).")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Score threshold (detection, multi-label); default: chosen on validation."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet (PNG or JPEG).")] = None,
    sets: Annotated[
        float | None,
        typer.Option(
            help="Also list the classes among which the truth is with this probability, such as 0.95 (docs/sets.md)."
        ),
    ] = None,
    unknown: Annotated[
        float | None,
        typer.Option(
            help="Say which images look like none of the classes; of images of the classes, at most this share is "
            "rejected, such as 0.05 (docs/unknown.md)."
        ),
    ] = None,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Segment large images at full resolution, in overlapping windows.")
    ] = False,
    engine: Engine = None,
    precision: PrecisionOfFiles = "auto",
    quiet: Quiet = False,
) -> None:
    """Predict with a run or a pretrained model. Unreadable files are reported and skipped; the exit code is then 1."""
    import handlens
    from handlens.flow.predict import writing
    from handlens.flow.runs import find_run
    from handlens.flow.sheets import SHEET_LIMIT

    of_task = {name: path for name, path in {"masks": masks, "coco": coco, "yolo": yolo}.items() if path}
    count = bad = 0
    lines_on_screen = sys.stdout.isatty() and (as_json or not csv)  # they are progress enough
    try:
        with reporting(quiet or lines_on_screen) as report:
            opened = find_run(run, exported=True, report=report)
            predictions = handlens.predict(
                opened,
                paths,
                engine=engine,
                precision=known_precision(precision, int8=True),
                threshold=threshold,
                tiles=tiles,
                sets=sets,
                unknown=unknown,
                report=report,
            )
            # Outputs open files, which a wrong path or an unknown run must leave as they are.
            outputs = writing(
                opened,
                csv=csv,
                annotate=annotate,
                sheet=sheet,
                of_task=of_task,
                as_json=as_json,
                top=top,
                sets=sets is not None,
                unknown=unknown is not None,
                print_line=print_while_read if csv or annotate or sheet or of_task else print_line,
            )
            with reader_may_leave(), outputs as write:
                for prediction in predictions:
                    count += 1
                    if prediction.result is None:
                        bad += 1
                        print_note(f"handlens: {prediction.error}")
                    write(prediction)
    except KeyboardInterrupt as stop:
        for note in getattr(stop, "__notes__", ()):
            print_note(f"handlens: {note}")
        raise
    if not quiet and (csv or annotate or sheet or of_task):
        cut = f" The sheet shows the first {SHEET_LIMIT}." if sheet and count - bad > SHEET_LIMIT else ""
        print_note(f"{count} images, {bad} unreadable.{cut}")
    if bad:
        raise typer.Exit(1)
