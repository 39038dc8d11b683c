"""A CSV as it stands in a folder: its rows, its columns by the names that they go by, and the files that it names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from handlens.data.record import IMAGE_EXTENSIONS, nfc
from handlens.errors import InputError

# Folders beside the table in which its files are looked for.
IMAGE_FOLDERS = (
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "JPEGImages",
    "data",
    "train",
    "train_images",
)


@dataclass(frozen=True)
class Table:
    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]  # (line in the file, cells)


class Finder:
    """Where the files are that a table names; by NFC, since macOS spells the same name in NFD."""

    def __init__(self, folder: Path) -> None:
        self.folders = [folder, *(folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir())]
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        """The path as found on disk, or None. Kaggle's ids have no extension: the usual ones are tried."""
        if not name:
            return None
        parts = nfc(name.replace("\\", "/")).split("/")
        for folder in [Path("/")] if name.startswith("/") else self.folders:
            for ending in ("", *sorted(IMAGE_EXTENSIONS)):
                path = self._below(folder, [*parts[:-1], parts[-1] + ending])
                if path is not None:
                    return path
        return None

    def _below(self, folder: Path, parts: Sequence[str]) -> Path | None:
        path = folder
        for part in parts:
            if part in ("", "."):
                continue
            name = ".." if part == ".." else self._listing(path).get(part)
            if name is None:
                return None
            path = path / name
        return path if path != folder and not path.is_dir() else None

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                self._names[folder] = {nfc(path.name): path.name for path in sorted(folder.iterdir())}
            except (NotADirectoryError, FileNotFoundError):
                self._names[folder] = {}
        return self._names[folder]


def table_files(folder: Path) -> list[Path]:
    """The tables directly in a folder, by name."""
    paths = sorted(folder.iterdir())
    return [p for p in paths if p.suffix.lower() in (".csv", ".tsv") and not p.name.startswith(".") and p.is_file()]


def load(path: Path) -> Table:
    """
    Raises:
        InputError: missing, not UTF-8, or a row of another length than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = Table(path, *_rows(file))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; set csv: path relative to the data folder.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8; save it again as 'CSV UTF-8'.") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    for line, cells in table.rows:
        if len(cells) != len(table.header):
            raise InputError(f"line {line} of {path.name} has {len(cells)} cells, not {len(table.header)}.")
    return table


def peek(path: Path) -> Table:
    """The header and the first rows, whatever is wrong with them: `load` says what it is."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return Table(path, *_rows(file, first=20))


def _rows(file: TextIO, *, first: int | None = None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (line, cells) of the rows that are not blank."""
    top = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter=max(",;\t", key=top.count))
    header = [name.strip() for name in next(reader, [])]
    rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in islice(reader, first)]
    return header, [(line, cells) for line, cells in rows if any(cells)]


def known(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that go by one of the names; the first name alone where it is there."""
    candidates = [column for column in header if column.lower() in names]
    exact = [column for column in candidates if column.lower() == names[0]]
    return exact or candidates


def column_of(table: Table, role: str, stated: str | None, names: Sequence[str]) -> int:
    """As `optional_column`, of a column that must be there.

    Raises:
        InputError: it is not.
    """
    index = optional_column(table, role, stated, names)
    if index is None:
        raise InputError(
            f"{table.path.name} has no column that could be the {role} (it has {', '.join(table.header)}); "
            f"name it with csv: {role} in handlens.yaml."
        )
    return index


def optional_column(table: Table, role: str, stated: str | None, names: Sequence[str]) -> int | None:
    """Where the column with a role stands: the stated one, or the one that goes by one of the names; None without.

    Raises:
        InputError: the stated one is not there, or several go by such names.
    """
    if stated is not None:
        if stated not in table.header:
            raise InputError(f"{table.path.name} has no column {stated!r}; it has {', '.join(table.header)}.")
        return table.header.index(stated)
    candidates = known(table.header, names)
    if len(candidates) > 1:
        raise InputError(
            f"{table.path.name} has several columns that could be the {role}: {', '.join(candidates)}; "
            f"choose one with csv: {role} in handlens.yaml."
        )
    return table.header.index(candidates[0]) if candidates else None
