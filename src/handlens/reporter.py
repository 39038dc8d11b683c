"""Where sentences and progress go."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass


def _silent(text: str) -> None:
    return None


def _no_progress(task: str, done: int, total: int | None) -> None:
    return None


@dataclass(frozen=True)
class Reporter:
    """From Python: nowhere, unless you pass your own.

    Attributes:
        say: takes a sentence. progress: takes (what, done, total); total is None where nobody knows it.
    """

    say: Callable[[str], None] = _silent
    progress: Callable[[str, int, int | None], None] = _no_progress

    def steps(self, task: str) -> Callable[[int, int], None]:
        """`progress` for one task."""
        return lambda done, total: self.progress(task, done, total)


QUIET = Reporter()


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
