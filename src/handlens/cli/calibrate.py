"""calibrate: a new run whose confidence fits how often it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handlens.cli.shared import AsJson, Config, Format, Quiet, app, print_json, print_sentence, reporting


@app.command()
def calibrate(
    run: Annotated[str, typer.Argument(help="A run folder of a classifier, or the name of a pretrained model.")],
    data: Annotated[
        Path | None,
        typer.Argument(help="Labeled images that the model has not learned from; default: the run's own."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new run folder; default: <RUN>-calibrated.")] = None,
    format: Format = None,
    config: Config = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit the temperature of a classifier to labeled images: a new run that predicts the same classes, with a
    confidence that fits how often they are right."""
    import handlens
    from handlens.figures import percent

    with reporting(quiet or as_json) as report:
        found = handlens.calibrate(run, data, out=out, format=format, config=config, report=report)
    if as_json:
        print_json(found)
        return
    before, after = map(percent, found["ece"])
    losses = found["nll"]
    measured = f"{found['images']:,} {found['source']}"
    if found["run"] is None:
        print_sentence(
            f"Calibration error {before} on {measured}. Dividing the logits by {found['factor']:.3f} would change the "
            f"cross-entropy from {losses[0]:.4f} to {losses[1]:.4f}, no more than chance: nothing is changed."
        )
    else:
        print_sentence(
            f"Cross-entropy {losses[0]:.4f} before and {losses[1]:.4f} after, calibration error {before} and {after}, "
            f"on {measured}."
        )
        print_sentence(
            f"Logits are divided by {found['factor']:.3f}, which makes the temperature {found['temperature']:.3f}. "
            f"New run: {found['run']}"
        )
