"""Where sentences and progress go."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from handlens.names import for_terminal

P = ParamSpec("P")
T = TypeVar("T")
REFRESH = 0.2  # seconds between two states of the progress in a notebook


def _silent(text: str) -> None:
    return None


def _no_progress(task: str, done: int, total: int | None) -> None:
    return None


@dataclass(frozen=True)
class Reporter:
    """`train`, `evaluate` and `export` show theirs in terminals and notebooks, unless you pass one as `report`.

    Attributes:
        say: takes a sentence. progress: takes (what, done, total); total is None where nobody knows it.
    """

    say: Callable[[str], None] = _silent
    progress: Callable[[str, int, int | None], None] = _no_progress

    def steps(self, task: str) -> Callable[[int, int], None]:
        """`progress` for one task."""
        return lambda done, total: self.progress(task, done, total)


QUIET = Reporter()


def shows_progress(function: Callable[P, T]) -> Callable[P, T]:
    """Of a function with the keyword `report`: where none is passed, sentences and progress are shown to who looks."""

    @functools.wraps(function)
    def shown(*args: P.args, **kwargs: P.kwargs) -> T:
        if "report" in kwargs:
            return function(*args, **kwargs)
        with _where_somebody_looks() as report:
            kwargs["report"] = report
            return function(*args, **kwargs)

    return shown


def _where_somebody_looks() -> contextlib.AbstractContextManager[Reporter]:
    ipython = sys.modules.get("IPython")
    if hasattr(ipython and ipython.get_ipython(), "kernel"):  # other programs have IPython imported too
        return in_notebook()
    return on_terminal() if sys.stderr is not None and sys.stderr.isatty() else contextlib.nullcontext(QUIET)


@contextlib.contextmanager
def on_terminal() -> Iterator[Reporter]:
    """Sentences and a progress bar on standard error; of what is no terminal, sentences alone."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Standard output is for results: rich would redirect it to standard error, among the bars.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
    ) as bar:
        shown: dict[str, Any] = {}  # one bar: the current task

        def progress(what: str, done: int, total: int | None) -> None:
            if what not in shown:
                for task in shown.values():
                    bar.remove_task(task)
                shown.clear()
                shown[what] = bar.add_task(what, total=total)
            bar.update(shown[what], completed=done, total=total)

        yield Reporter(
            say=lambda text: console.print(for_terminal(text), markup=False, soft_wrap=True), progress=progress
        )


@contextlib.contextmanager
def in_notebook() -> Iterator[Reporter]:
    """Sentences as output of the cell, and below them one line that counts; without widgets, which not every front end
    has."""
    from IPython.display import display

    line, seen = None, 0.0

    def show(text: str) -> None:
        nonlocal line
        content = {"text/plain": text}
        if line is None:
            line = display(content, raw=True, display_id=True)
        else:
            line.update(content, raw=True)

    def progress(what: str, done: int, total: int | None) -> None:
        nonlocal seen
        if time.monotonic() - seen > REFRESH or done == total:
            seen = time.monotonic()
            show(f"{what}: {done}" if total is None else f"{what}: {done} of {total}")

    try:
        yield Reporter(say=lambda text: print(for_terminal(text)), progress=progress)
    finally:
        if line is not None:
            show("")


@contextlib.contextmanager
def errors_alone(logger: str) -> Iterator[None]:
    """Another package logs its errors and nothing less, while the block runs."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
