"""What an audit says, and the words that its sentences share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LISTED = 12  # names in a sentence; our choice


@dataclass(frozen=True)
class Finding:
    """Something to know about the data.

    Attributes:
        level: an error stops training, a warning is stored and printed, a note is neither good nor bad.
        code: a stable name for programs.
        message: a sentence for people.
        files: the ids it is about; empty where it is about all.
        reasons: a sentence for each of `files`, where each has its own.
    """

    level: Level
    code: str
    message: str
    files: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def images(count: int) -> str:
    return counted(count, "image")


def counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}{'es' if what.endswith(('x', 's')) else 's'}"


def listed(names: Sequence[str]) -> str:
    """The first of them: a data set may have a thousand classes."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
