"""The command line: parses and prints, and has no logic of its own.

Exit codes: 0 success, 1 findings, 2 usage error, 3 an export does not match PyTorch, 70 a bug, 130 interrupted.
"""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import sys
from typing import Annotated

import typer

from handlens.cli import (  # each adds its commands to the application
    bench,
    calibrate,
    compare,
    data,
    explain,
    export,
    forecast,
    int8,
    nets,
    runs,
    similar,
    weights,
)
from handlens.cli.shared import app, print_error, print_note, reader_may_leave
from handlens.errors import FindingsError, InputError, ParityError
from handlens.names import escape_what_is_lacking
from handlens.version import VERSION

UNEXPECTED = 70  # exit code, of sysexits.h: an internal error

__all__ = [
    "FindingsError",
    "app",
    "bench",
    "calibrate",
    "compare",
    "data",
    "explain",
    "export",
    "forecast",
    "int8",
    "main",
    "nets",
    "run",
    "runs",
    "similar",
    "weights",
]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"handlens {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option(help="Show the traceback of an error; allowed anywhere in the command.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a folder of images to a small vision model that you can trust on a phone."""


def main() -> None:
    """The entry point of the command `handlens`."""
    code = run(sys.argv[1:])
    with reader_may_leave():
        sys.stdout.flush()
    gc.freeze()  # Python would look through all of torch for garbage before it ends: a quarter of a second
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: errors become one sentence on standard error."""
    from handlens.files import cache_folder

    # matplotlib caches its list of fonts, by default in a folder in the user's home.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    # A process may be started without them: what is printed then goes nowhere.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal or pipe may lack characters of a name
            stream.reconfigure(errors=escape_what_is_lacking())
    debug = "--debug" in arguments
    if debug:  # what failed on one file of many
        logging.basicConfig()
        logging.getLogger("handlens").setLevel(logging.DEBUG)
    try:
        app([argument for argument in arguments if argument != "--debug"])
    except (InputError, ParityError) as error:
        if debug:
            raise
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # permissions, a full disk, a share that went away
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = " The disk is full; files saved earlier are intact." if full else ""
        print_note(f"handlens: {where}{error.strerror or error}.{hint}")
        return InputError.exit_code
    except Exception as error:  # a mistake of ours: never a traceback
        if debug:
            raise
        print_note(
            f"handlens: an unexpected {type(error).__name__} ({str(error)[:200]}). This is a bug: please report it "
            "with the command and what --debug prints."
        )
        return UNEXPECTED
    except SystemExit as done:  # how typer ends, also after wrong usage (2)
        if isinstance(done.__context__, BrokenPipeError):  # its reader has had enough, which typer counts as a failure
            return 0
        return done.code if isinstance(done.code, int) else 0
    return 0
