"""Models on a phone or a board: the commands that time them there, and what these have printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handlens.errors import InputError, check_numbers
from handlens.flow.runs import find_run
from handlens.reporter import QUIET, Reporter
from handlens.runtimes import RUNTIMES, runtime_of
from handlens.timing.contender import MOST_THREADS
from handlens.timing.race import Measured
from handlens.training.proved import proved_files
from handlens.training.run import Run

RUNS = 50


def device_commands(
    models: Sequence[Path | str | Run], *, threads: int = 1, runs: int = RUNS, report: Reporter = QUIET
) -> list[dict[str, Any]]:
    """The commands that time models on an Android device, by the public program of each runtime.

    Args:
        models: exported files; of runs and names, their proved exports.

    Returns:
        per file {"file", "program", "where" (one gets it), "commands"}.

    Raises:
        InputError: no such model, or a run without exports.
    """
    check_numbers([threads], "threads", MOST_THREADS)
    found = []
    for model in models:
        run = find_run(model, exported=True, report=report)
        shape = dict(zip(("height", "width", "channels"), input_shape(run), strict=True))
        files = [run.folder] if run.folder.is_file() else [proved.path for proved in proved_files(run)]
        if not files:
            name = shlex.quote(str(model.folder if isinstance(model, Run) else model))
            raise InputError(f"{run.folder.name} has no exports; make one with: handlens export {name} --to litert")
        for file in files:
            runtime = runtime_of(file)
            assert runtime is not None
            program = runtime.programs[0]
            commands = program.commands(
                tuple(sorted(runtime.files(file), key=lambda part: part == file)),
                any_size=run.resizes,
                threads=threads,
                runs=runs,
                **shape,
            )
            found.append({"file": str(file), "program": program.name, "where": program.where, "commands": commands})
    return found


def input_shape(run: Run) -> tuple[int, int, int]:
    """(height, width, channels) of an image that a file is timed with."""
    preprocess = run.preprocess
    return preprocess.height, preprocess.width, 3 if run.resizes else preprocess.channels


def printed_row(text: str, *, source: str) -> dict[str, Any]:
    """What a benchmark program has printed of one run, as a row like those of `bench`.

    Args:
        source: where the text is from, for names and sentences.

    Returns:
        the keys of `timing.race.Measured`, None where the program does not say; and "load_ms", "first_run_ms", "device"
        (the source).

    Raises:
        InputError: no known program printed this, or several runs stand in it.
    """
    programs = [program for runtime in RUNTIMES.values() for program in runtime.programs]
    program = next((program for program in programs if program.read(text) is not None), None)
    printed = None if program is None else program.read(text)
    if program is None or printed is None:
        known = ", ".join(program.name for program in programs)
        raise InputError(f"{source} holds nothing that a known benchmark program prints ({known}).")
    if len(re.findall(program.sign, text)) > 1:
        raise InputError(f"{source} holds several runs of {program.name}; give each a file of its own.")
    typical = printed.mean_ms if printed.median_ms is None else printed.median_ms
    return dict.fromkeys(Measured.__dataclass_fields__) | {
        "name": printed.model or Path(source).stem,
        "runtime": program.name,
        "threads": printed.threads,
        "batch": 1,
        "runs": printed.runs,
        "median_ms": printed.median_ms,
        "p90_ms": printed.p90_ms,
        "mean_ms": printed.mean_ms,
        "images_per_second": printed.images_per_second or (1000 / typical if typical else None),
        "peak_mb": printed.peak_mb,
        "load_ms": printed.load_ms,
        "first_run_ms": printed.first_ms,
        "device": source,
    }
