"""Tables that somebody else wrote: comma, semicolon or tab between the cells."""

from __future__ import annotations

import csv
import io
from itertools import islice
from pathlib import Path

from handlens.names import from_csv
from handlens.reading.files import UnreadableFileError, opened, read_start
from handlens.reading.text import MARKS, read_text

LONGEST = csv.field_size_limit()  # characters of a cell: 131,072, more than which a quote was never closed
START = 64 * 1024  # bytes that are looked at to see what a table is

Rows = list[tuple[int, list[str]]]  # (line in the file, cells)


def read_rows(path: Path, *, encoding: str | None = None) -> tuple[list[str], Rows]:
    """The header, and the rows that are not blank; cells without spaces around them, and without the ' that
    `names.for_csv` puts before what looks like a formula.

    Args:
        encoding: where somebody states it.

    Raises:
        UnreadableFileError: the file is missing, cannot be read, is in another encoding, or has a cell of more than
            LONGEST characters.
        InputError: there is no such encoding.
    """
    hint = "state it with csv: {encoding: ...} in handlens.yaml, or save it again as 'CSV UTF-8'"
    return _rows(read_text(path, "table", encoding=encoding, hint=hint), path)


def peek_rows(path: Path, *, first: int = 20, encoding: str | None = None) -> tuple[list[str], Rows]:
    """The header and the first rows, whatever is wrong with them; nothing where it cannot be read at all."""
    try:
        content = read_start(path, START)
        with opened(path) as (_, size):
            whole = size <= START
    except UnreadableFileError:
        return [], []
    marked = next((name for mark, name in MARKS if content.startswith(mark)), encoding or "utf-8")
    try:
        text = content.decode(marked, "replace")
    except LookupError:  # of a stated one; `read_rows` says so
        return [], []
    if not whole:
        text = text[: text.rfind("\n") + 1]
    try:
        return _rows(text, path, first=first)
    except UnreadableFileError:
        return [], []


def _rows(text: str, path: Path, *, first: int | None = None) -> tuple[list[str], Rows]:
    top = text[: text.find("\n")] if "\n" in text else text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=top.count))
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, [from_csv(cell.strip()) for cell in cells]) for cells in islice(reader, first)]
    except csv.Error as error:
        reason = f"has a cell of more than {LONGEST:,} characters; is a quote never closed?"
        if "field larger" not in str(error):
            reason = f"is no table: {error}"
        raise UnreadableFileError(path, f"{reason} (line {reader.line_num})") from None
    return header, [(line, cells) for line, cells in rows if any(cells)]
