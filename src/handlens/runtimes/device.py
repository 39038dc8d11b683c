"""What a phone or a board needs to time a file: the public program of each runtime, and what it prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
FOLDER = "/data/local/tmp"  # of Android, where a program may be put and run without rights


@dataclass(frozen=True)
class Printed:
    """What a program has printed of one run; None is what it does not say.

    Attributes:
        median_ms, p90_ms, mean_ms: of one batch, milliseconds.
        first_ms: of the first batch, after loading.
        load_ms: of loading.
        peak_mb: memory of the process, 10^6 bytes.
        model: the file, as the program names it.
    """

    runs: int | None = None
    median_ms: float | None = None
    p90_ms: float | None = None
    mean_ms: float | None = None
    first_ms: float | None = None
    load_ms: float | None = None
    images_per_second: float | None = None
    peak_mb: float | None = None
    threads: int | None = None
    model: str | None = None


@dataclass(frozen=True)
class Figure:
    """Where a number stands in what is printed.

    Attributes:
        pattern: with NUMBER as its one group; the last place where it matches counts.
        factor: from the program's unit to that of Printed.
    """

    pattern: str
    factor: float = 1.0

    def find(self, text: str) -> float | None:
        found = re.findall(self.pattern, text)
        return float(found[-1]) * self.factor if found else None


@dataclass(frozen=True)
class Program:
    """The public benchmark program of a runtime.

    Attributes:
        name: of the program. where: it is to be had or built from, and what it prints is described.
        arguments: a template with {model}, {threads}, {runs}, {height}, {width} and {channels}; empty of a program that
            is read only. of_any_size: a template for files that resize inside, where theirs is another.
        sign: a pattern that is found in what it prints, and in nothing that another one prints.
        figures: by attribute of Printed, and "total_ms", of all runs together.
        model: the pattern of the file's name.
        environment: before the command.
    """

    name: str
    where: str
    sign: str
    figures: Mapping[str, Figure]
    arguments: str = ""
    of_any_size: str = ""
    model: str = r"(?!)"
    environment: str = ""

    def commands(self, files: tuple[Path, ...], *, any_size: bool = False, **values: int) -> list[str]:
        """What is typed to time a model on an Android device by adb.

        Args:
            files: of the model, the one that is opened last.
            any_size: the model resizes inside.
            values: of the template.
        """
        pushed = [f"adb push {shlex.quote(name)} {FOLDER}/" for name in (self.name, *map(str, files))]
        arguments = (any_size and self.of_any_size) or self.arguments
        call = arguments.format(model=shlex.quote(f"{FOLDER}/{files[-1].name}"), **values)
        return [
            *pushed,
            f"adb shell chmod +x {FOLDER}/{self.name}",
            f"adb shell {shlex.quote(f'{self.environment}{FOLDER}/{self.name} {call}')}",
        ]

    def read(self, text: str) -> Printed | None:
        """What one run has printed; None where it is not this program's."""
        if not re.search(self.sign, text):
            return None
        found: dict[str, Any] = {name: figure.find(text) for name, figure in self.figures.items()}
        total = found.pop("total_ms", None)
        if total is not None and found.get("runs"):
            found["mean_ms"] = total / found["runs"]
        for name in ("runs", "threads"):
            found[name] = None if found.get(name) is None else round(found[name])
        names = re.findall(self.model, text)
        return Printed(**found, model=names[-1].rpartition("/")[2] if names else None)
