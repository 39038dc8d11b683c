"""Shared by all commands: the application, options, printing and progress."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handlens.errors import InputError
from handlens.names import as_json, for_terminal

if TYPE_CHECKING:
    from rich.console import Console

    from handlens.reporter import Reporter

app = typer.Typer(
    name="handlens",
    help="From a folder of images to a small vision model that you can trust on a phone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Format = Annotated[str | None, typer.Option(help="Data format, if it is not detected automatically: see docs/data.md.")]
Config = Annotated[Path | None, typer.Option("--data-config", help="A handlens.yaml outside the data folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors, no progress.")]

Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", help="Additional argument of the model, such as padding=same; repeatable, as options: in a recipe."
    ),
]
Split = Annotated[
    int,
    typer.Option(help="Split the expansions that decide the peak memory into at most this many parts (docs/nets.md)."),
]
Strips = Annotated[int, typer.Option(help="Run the first blocks in this many strips of rows (docs/nets.md).")]
Model = Annotated[str | None, typer.Option(help="A name from `handlens models`.")]
ImageSize = Annotated[int | None, typer.Option(help="Input size in pixels.")]
Seed = Annotated[int | None, typer.Option(help="Random seed.")]
Precision = Annotated[str, typer.Option(help="auto: the fastest on this CPU (bf16 or fp32); fp32: matches PyTorch.")]


def png(path: Path | None) -> Path | None:
    """A callback of options that draw.

    Raises:
        InputError: another kind of file, or a place that cannot be written: known before minutes of measuring.
    """
    if path is None:
        return None
    if path.suffix.lower() != ".png" or path.is_dir():
        raise InputError(f"--plot must be a PNG file, got {path}.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--plot is {path}, and {folder} cannot be written.")
    return path


PrecisionOfFiles = Annotated[
    str,
    typer.Option(
        "--precision",
        help="auto: the fastest on this CPU (bf16 or fp32); fp32: matches PyTorch; int8: the run's int8 export.",
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(help="Use the run's verified export for executorch, litert, onnx or openvino (docs/bench.md)."),
]


def known_precision(value: str, *, int8: bool = False) -> Any:
    """
    Args:
        int8: is one of them.

    Raises:
        InputError: no precision.
    """
    if value not in ("auto", "fp32", *(("int8",) if int8 else ())):
        raise InputError(f"--precision must be {'auto, fp32 or int8' if int8 else 'auto or fp32'}, got {value!r}.")
    return value


def whole_numbers(text: str, option: str) -> list[int]:
    """ "1,8" -> [1, 8].

    Raises:
        InputError: something else than whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"{option} must be whole numbers separated by commas, got {text!r}.")
    return [int(part) for part in parts]


def print_json(value: Any) -> None:
    print_line(as_json(value, indent=2))


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """A closed pipe, for example of `head`, is not an error."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still in the buffer


def print_error(error: Exception) -> None:
    print_note(f"handlens: {error}")


def print_note(text: str) -> None:
    """One line on standard error."""
    typer.echo(for_terminal(text), err=True)


def print_sentence(text: str) -> None:
    """One line on standard output, whatever names are in it."""
    print_line(for_terminal(text))


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")


def print_while_read(text: str) -> None:
    """Print a line of what is also written to files, which a reader that leaves must not cost."""
    with reader_may_leave():
        print_line(text)


def console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # files and pipes have no width
    return console


@contextlib.contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Messages and a progress bar on standard error, or nothing."""
    from handlens.reporter import QUIET, on_terminal

    if quiet:
        yield QUIET
        return
    with on_terminal() as report:
        yield report
