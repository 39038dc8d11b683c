"""bench: how fast a model is, in which runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from handlens.cli.shared import AsJson, Quiet, app, console, png, print_json, reporting, whole_numbers
from handlens.errors import InputError

DEFAULT_BATCH, DEFAULT_ROUNDS = "1,8", 10


@app.command()
def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Run folders, names of pretrained models, or exported files; one or several."),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            help="Of runs: executorch, litert, onnx, openvino, pytorch or compile (torch.compile), with commas; "
            "default: all that are installed."
        ),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Numbers of threads, with commas; default: 1 and one per core.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Images in one run, with commas.")] = DEFAULT_BATCH,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each contender takes.")] = DEFAULT_ROUNDS,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency, first prediction, throughput and memory (PNG).", callback=png)
    ] = None,
    adb: Annotated[
        bool, typer.Option("--adb", help="Print the commands that time exported files on an Android device.")
    ] = False,
    read: Annotated[
        list[str] | None,
        typer.Option(help="Also show what such a command has printed: a file, or - for standard input; repeatable."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Time a model in every runtime, or exported files, side by side: latency, throughput, first prediction, memory."""
    from handlens.flow.bench import bench as measure

    if adb:
        timing: dict[str, Any] = {"--engines": engines, "--plot": plot, "--read": read}
        timing |= {"--batch": batch != DEFAULT_BATCH, "--rounds": rounds != DEFAULT_ROUNDS}
        if given := [name for name, value in timing.items() if value]:
            raise InputError(f"--adb only prints commands; omit {', '.join(given)}.")
        _print_commands(models or [], threads, as_json=as_json, quiet=quiet)
        return
    with reporting(quiet or as_json) as report:
        found = measure(
            models or [],
            engines=None if engines is None else [name.strip() for name in engines.split(",")],
            threads=None if threads is None else whole_numbers(threads, "--threads"),
            batches=whole_numbers(batch, "--batch"),
            rounds=rounds,
            read=read or (),
            plot=plot,
            report=report,
        )
    if as_json:
        print_json(found)
        return
    from handlens.tables import print_bench

    print_bench(console(), found)


def _print_commands(models: list[str], threads: str | None, *, as_json: bool, quiet: bool) -> None:
    from handlens.flow.device import device_commands
    from handlens.tables import print_device_commands

    numbers = [1] if threads is None else whole_numbers(threads, "--threads")
    if len(numbers) != 1:
        raise InputError(f"--adb takes one number of --threads, got {threads}.")
    if not models:
        raise InputError("--adb needs exported files, or runs that have exports.")
    with reporting(quiet or as_json) as report:
        found = device_commands(models, threads=numbers[0], report=report)
    if as_json:
        print_json(found)
    else:
        print_device_commands(console(), found)
