"""export: a file for another runtime, compared with PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handlens.cli.shared import (
    AsJson,
    Quiet,
    Split,
    Strips,
    app,
    console,
    print_error,
    print_json,
    print_sentence,
    reporting,
)
from handlens.errors import InputError
from handlens.flow.export_options import FINE_TUNE, MAX_DROP


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run folder, or the name of a pretrained model.")],
    to: Annotated[str, typer.Option(help="executorch, litert, onnx or openvino; several with commas, or all.")],
    out: Annotated[
        Path | None, typer.Option(help="Output file; a folder for several runtimes; default: exports/ in the run.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Images for the parity check; default: the run's own.")] = None,
    with_resize: Annotated[
        bool, typer.Option("--with-resize", help="Include the resize in the graph: it accepts images of any size.")
    ] = False,
    suppress: Annotated[
        bool,
        typer.Option(
            "--suppress/--no-suppress", help="Include NMS in the graph; with --no-suppress the app does it (detection)."
        ),
    ] = True,
    fp16: Annotated[bool, typer.Option("--fp16", help="Store weights in 16 bits.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize weights and activations to 8 bits.")] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0.0, help=f"Points of the metric that --fp16 or --int8 may lose; default: {MAX_DROP:g}."),
    ] = None,
    keep_float: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --int8, keep this many of the layers that it hurts most in float; default: none, or up to 4 if "
            "every setting exceeds --max-drop.",
        ),
    ] = None,
    equalize: Annotated[
        bool,
        typer.Option("--equalize", help="Cross-layer equalization before --int8."),
    ] = False,
    correct_bias: Annotated[
        bool,
        typer.Option(
            "--correct-bias/--no-correct-bias",
            help="With --int8, correct biases for the shift in mean activations that rounding weights causes.",
        ),
    ] = True,
    fine_tune: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Epochs of quantization-aware fine-tuning if every --int8 setting exceeds --max-drop; 0: none; "
            f"default: {FINE_TUNE}.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Images for --int8 to calibrate and fine-tune with; default: training images of the run."),
    ] = None,
    split: Split = 1,
    strips: Strips = 1,
    max_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of images for the parity check; default: what a minute of processor time allows.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Use all images for the parity check.")] = False,
    app: Annotated[
        bool,
        typer.Option(
            "--app/--no-app",
            help="Also write a folder for the app's developer: README, code, self-test and a few of the images.",
        ),
    ] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Export for another runtime and verify that its predictions match PyTorch's. Exit code 3 if they do not."""
    from handlens.flow.export import export_each
    from handlens.flow.export_options import ExportOptions
    from handlens.tables import print_parities

    if everything and max_images is not None:
        raise InputError("--all and --max-images exclude each other.")
    with reporting(quiet or as_json) as report:
        options = ExportOptions(
            out=out,
            data=data,
            with_resize=with_resize,
            suppress=suppress,
            split=split,
            strips=strips,
            fp16=fp16,
            int8=int8,
            max_drop=max_drop,
            keep_float=keep_float,
            equalize=equalize,
            correct_bias=correct_bias,
            fine_tune=fine_tune,
            calibrate=calibrate,
            app=app,
            images="all" if everything else max_images,
        )
        outcomes = list(export_each(run, to=to, options=options, report=report))
    if as_json:
        results = [outcome.to_dict() for outcome in outcomes]
        print_json({"passed": all(result["passed"] for result in results), "exports": results})
    else:
        print_parities(console(), [outcome.parity for outcome in outcomes if outcome.parity])
        for outcome in outcomes:
            if outcome.path is not None:
                print_sentence(str(outcome.path))
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failed:
        *others, worst = sorted(failed, key=lambda error: error.exit_code)
        for error in others:
            print_error(error)
        raise worst
