"""Numbers in a table: columns named in handlens.yaml (csv: {values: [weight]}), or one that is called "value"."""

from __future__ import annotations

import math
from collections.abc import Sequence

from handlens.errors import InputError

VALUE_COLUMN = "value"
LARGEST = 1e30  # of a number: its square still fits a float


def value_columns(header: Sequence[str], stated: list[str] | None, *, table: str) -> list[int]:
    """Where the numbers stand; [] where the table has none.

    Raises:
        InputError: a stated column is missing, or stands there twice.
    """
    if stated is None:
        return [place for place, name in enumerate(header) if name.lower() == VALUE_COLUMN][:1]
    unknown = [name for name in stated if name not in header]
    if unknown or not stated:
        raise InputError(f"{table} has no column {unknown[0] if unknown else ''!r}; it has {', '.join(header)}.")
    if len(set(stated)) < len(stated):
        raise InputError(f"csv: values in handlens.yaml names a column twice: {', '.join(stated)}.")
    return [header.index(name) for name in stated]


def numbers(cells: Sequence[str], columns: Sequence[int], header: Sequence[str], *, where: str) -> tuple[float, ...]:
    """The numbers of a row; () where all their cells are empty.

    Raises:
        InputError: a cell that holds no number, or some with a number and some without.
    """
    texts = [cells[column] for column in columns]
    if not any(texts):
        return ()
    found = []
    for column, text in zip(columns, texts, strict=True):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) < LARGEST:  # nan too
            hint = "; use a decimal point" if "," in text else ""
            raise InputError(f"{where} has {text!r} in the column {header[column]!r}; a number is expected{hint}.")
        found.append(value)
    return tuple(found)
