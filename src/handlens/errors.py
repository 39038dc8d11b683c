"""Errors of the user, and the exit code of each on the command line.

Every message is one sentence about what is wrong (with the offending value) and what to do.
Any other exception is a bug and shows its traceback.
"""

import difflib
import logging
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a sentence about an unknown name: "the closest match is 'x'", or what there is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.65)
    return f"the closest match is {near[0]!r}" if near else f"available: {', '.join(known)}"


def require(package: str, *, extra: str, what: str) -> None:
    """
    Args:
        package: what is imported later. what: the beginning of the sentence.

    Raises:
        InputError: it is not installed; with the line that installs it.
    """
    if find_spec(package) is None:
        raise InputError(f"{what} needs additional packages: pip install 'handlens[{extra}]'.")


class InputError(ValueError):
    """Invalid input. Exit code 2."""

    exit_code = 2


class FindingsError(InputError):
    """The data is readable but unsuitable, for example a single class. Exit code 1."""

    exit_code = 1


class ParityError(RuntimeError):
    """An exported model's predictions differ from PyTorch's. Exit code 3.

    Attributes:
        parity: the report (`runtimes.parity.Parity`).
    """

    exit_code = 3

    def __init__(self, sentence: str, parity: Any = None) -> None:
        super().__init__(sentence)
        self.parity = parity


def check_numbers(values: Sequence[int], what: str, most: int) -> list[int]:
    """Values of an option, in ascending order, each once.

    Raises:
        InputError: none, or one that is out of range.
    """
    found = sorted(set(values))
    if not found or found[0] < 1 or found[-1] > most:
        raise InputError(f"--{what} must be from 1 to {most:,}, got {', '.join(map(str, values)) or 'nothing'}.")
    return found


def unexpected(error: Exception, name: str) -> str:
    """For the last net under one file of many: a sentence about an error that nobody thought of, which is logged."""
    logging.getLogger("handlens").debug(name, exc_info=error)
    return f"{name}: an unexpected {type(error).__name__} ({' '.join(str(error).split())[:80]}); --debug shows more."
