"""A table with a row per image: file, label or labels, and where known split and group.

Several labels stand in one cell with something between them, or in columns of 0 and 1, one per class. Numbers stand in
columns of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from handlens.data.config import CsvColumns, DataConfig
from handlens.data.formats import filename, folders
from handlens.data.formats.assemble import Found, assemble, assemble_tags, assemble_values, named
from handlens.data.formats.boxes_csv import box_columns
from handlens.data.formats.csv_file import (
    GROUP_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    Finder,
    Table,
    all_have_a_split,
    column_of,
    file_columns,
    known,
    load,
    not_named,
    optional_column,
    peek,
    split_in,
    tables_below,
)
from handlens.data.formats.csv_values import VALUE_COLUMN, numbers, value_columns
from handlens.data.record import Dataset, Remark
from handlens.errors import InputError

FORMAT = "csv"
# Columns whose cells are masks or polygons, without spaces, "_", "-" and ".".
OUTLINES = (
    *("encodedpixels", "rle", "rlemask", "maskrle", "segmentation", "polygon", "points", "keypoints", "landmarks"),
    *("regionshapeattributes", "boxesstring", "predictionstring"),
)
SEPARATORS = ("|", ";")  # between labels of one cell, found by themselves; any other is stated
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


@dataclass(frozen=True)
class Reading:
    """How the labels of a table are read.

    Attributes:
        label_of: (line, cells) -> what `assemble` takes as an image's label; None where the row has none.
        said: where the labels stand, for a note.
        required: a row without a label is an error.
    """

    label_of: Callable[[int, list[str]], Any]
    assemble: Callable[..., Dataset]
    said: str
    required: bool = False


def recognize(path: Path) -> bool:
    """A table with a column of files and one of labels, or several of 0 and 1, whose first files exist.

    Where nothing else has labels either, one whose files are missing too: better an error that names them than
    images without labels.
    """
    fitting = [table for table in map(peek, tables_below(path)) if _fits(table)]
    if any(_first_exist(table) for table in fitting):
        return True
    return bool(fitting) and not folders.recognize(path) and not filename.recognize(path)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no table or several; columns that cannot be told apart; a cell without file, or without label
            where each image has one; a split that is not known; a file that is missing, or listed with two labels.
    """
    columns = config.csv or CsvColumns.model_validate({})
    table = _table(path, columns)
    file = column_of(table, "file", columns.file, file_columns(table.header))
    split = optional_column(table, "split", columns.split, SPLIT_COLUMNS)
    group = optional_column(table, "group", columns.group, GROUP_COLUMNS)
    reading = _reading(table, columns, other=[file, split, group])

    finder = Finder(path, table.path.parent)
    found: dict[Path, Found] = {}
    missing: list[str] = []
    twice = 0
    for line, cells in table.rows:
        label = reading.label_of(line, cells)
        if not cells[file] or (label is None and reading.required):
            raise InputError(f"line {line} of {table.path.name} has no {'file' if not cells[file] else 'label'}.")
        image = finder.find(cells[file])
        if image is None:
            missing.append(cells[file])
            continue
        item = Found(
            path=image,
            label=label,
            split=None if split is None else split_in(cells[split], table=table, line=line),
            group=None if group is None else cells[group] or None,
        )
        if found.setdefault(image, item) != item:
            raise InputError(f"line {line} of {table.path.name} contradicts an earlier line about {cells[file]!r}.")
        twice += found[image] is not item
    if missing:
        shown = ", ".join(missing[:5])
        raise InputError(
            f"{len(missing)} of the {len(table.rows)} files in {table.path.name} are missing ({shown}); "
            f"paths are relative to the table or to a folder such as images/ beside it."
        )
    notes: list[str | Remark] = [f"table {table.path.name}: images in {table.header[file]!r}, {reading.said}"]
    notes += [f"lines that repeat an earlier one: {twice}"] if twice else []
    all_have_a_split(list(found.values()), table.path.name)
    notes += not_named(path, config, found)
    return reading.assemble(path, format=FORMAT, found=found.values(), config=config, notes=notes)


def _reading(table: Table, columns: CsvColumns, *, other: Sequence[int | None]) -> Reading:
    """How the labels of a row are read: numbers, several labels or one."""
    if columns.label is None and columns.labels is None and columns.values is None:
        require_no_places(table)
    stated = columns.labels
    unnamed = stated is None and columns.label is None and not known(table.header, LABEL_COLUMNS)
    if columns.values is not None or unnamed:
        values = value_columns(table.header, columns.values, table=table.path.name)
        if values:
            return _numbered(table, values)
    if unnamed:
        flags = _flag_columns(table, leave=other)
        if len(flags) >= 2:
            return _flagged(table, flags, several=any(_ones(cells, flags) != 1 for _, cells in table.rows))
    if stated is not None:
        unknown = [name for name in stated if name not in table.header]
        if unknown or not stated:
            missing = unknown[0] if unknown else ""
            raise InputError(f"{table.path.name} has no column {missing!r}; it has {', '.join(table.header)}.")
        return _flagged(table, [table.header.index(name) for name in stated], several=True)
    label = column_of(table, "label", columns.label, LABEL_COLUMNS)
    where = f"labels in {table.header[label]!r}"
    between = columns.separator
    if between is None:
        between = next((sign for sign in SEPARATORS if any(sign in cells[label] for _, cells in table.rows)), "")
        if between:
            where += f", several separated by {between!r} (csv: separator: '' reads every cell as one)"
    if not between:
        return Reading(lambda line, cells: cells[label] or None, assemble, where, required=True)

    def split_cell(line: int, cells: list[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.strip() for part in cells[label].split(between) if part.strip()))

    return Reading(split_cell, assemble_tags, where)


def require_no_places(table: Table) -> None:
    """A class per image would be the wrong task for a table of places in it.

    Raises:
        InputError: columns are called like boxes, points or outlines; they are named.
    """
    found = box_columns(table.header)
    if found is not None:
        there = ", ".join(table.header[column] for column in found.numbers)
        if not file_columns(table.header):
            raise InputError(
                f"{table.path.name} has columns of boxes ({there}) and none that could be the file (it has "
                f"{', '.join(table.header[:12])}); name it with csv: file in handlens.yaml."
            )
        raise InputError(
            f"{table.path.name} has columns of boxes ({there}): read it with --format boxes-csv, or name the column of "
            "one class per image with csv: label in handlens.yaml."
        )
    plain = [re.sub(r"[\s_.-]", "", name.lower()) for name in table.header]
    outlines = [name for name, short in zip(table.header, plain, strict=True) if short in OUTLINES]
    points = [
        name
        for name, short in zip(table.header, plain, strict=True)
        if (short.endswith("x") and f"{short[:-1]}y" in plain) or (short.endswith("y") and f"{short[:-1]}x" in plain)
    ]
    for what, columns in (("outlines", outlines), ("points", points)):
        if columns:
            raise InputError(
                f"{table.path.name} has columns that look like {what} ({', '.join(columns[:6])}), which are not read "
                "from tables; to read another column, name it with csv: label or csv: values in handlens.yaml."
            )


def _numbered(table: Table, values: Sequence[int]) -> Reading:
    names = [table.header[column] for column in values]

    def label_of(line: int, cells: list[str]) -> tuple[float, ...] | None:
        where = f"line {line} of {table.path.name}"
        return numbers(cells, values, table.header, where=where) or None

    return Reading(label_of, partial(assemble_values, names=names), f"numbers in {', '.join(names)}")


def _flagged(table: Table, flags: Sequence[int], *, several: bool) -> Reading:
    def ones(line: int, cells: list[str]) -> tuple[str, ...]:
        for column in flags:
            if cells[column].lower() not in FLAGS:
                raise InputError(
                    f"line {line} of {table.path.name} has {cells[column]!r} in the column {table.header[column]!r}; "
                    f"0 or 1 is expected."
                )
        return tuple(table.header[column] for column in flags if FLAGS[cells[column].lower()])

    named_columns = named([table.header[column] for column in flags])
    if several:
        return Reading(ones, assemble_tags, f"labels in columns of 0 and 1: {named_columns}")
    said = f"labels in columns of 0 and 1, one 1 in each row: {named_columns}"
    return Reading(lambda line, cells: ones(line, cells)[0], assemble, said, required=True)


def _flag_columns(table: Table, *, leave: Sequence[int | None] = ()) -> list[int]:
    """The columns that hold nothing but 0 and 1."""
    return [
        column
        for column in range(len(table.header))
        if table.rows
        and column not in leave
        and all(column < len(cells) and cells[column].lower() in FLAGS for _, cells in table.rows)
    ]


def _ones(cells: Sequence[str], flags: Sequence[int]) -> int:
    return sum(FLAGS[cells[column].lower()] for column in flags)


def _table(folder: Path, columns: CsvColumns) -> Table:
    if columns.path is not None:
        return load(folder / columns.path, encoding=columns.encoding)
    paths = tables_below(folder)
    if not paths:
        raise InputError(f"{folder} has no CSV file; set csv: path in handlens.yaml.")
    if len(paths) == 1:
        return load(paths[0], encoding=columns.encoding)
    stated = columns if columns != CsvColumns.model_validate({}) else None  # else a table of boxes is none of labels
    fitting = [path for path in paths if _fits(peek(path), stated)]
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting or paths)
        raise InputError(f"{folder} has several tables ({names}); choose one with csv: path in handlens.yaml.")
    return load(fitting[0], encoding=columns.encoding)


def _fits(table: Table, columns: CsvColumns | None = None) -> bool:
    if columns is None and box_columns(table.header) is not None:
        return False
    columns = columns or CsvColumns.model_validate({})
    file = [columns.file] if columns.file else known(table.header, file_columns(table.header))
    label = [columns.label] if columns.label else columns.labels or known(table.header, LABEL_COLUMNS)
    values = columns.values or [name for name in table.header if name.lower() == VALUE_COLUMN]
    labeled = any(name in table.header for name in [*label, *values]) or len(_flag_columns(table)) >= 2
    return any(name in table.header for name in file) and labeled


def _first_exist(table: Table) -> bool:
    """Whether any of the first rows names an image that is there. A table of answers to hand in names none."""
    finder = Finder(table.path.parent, table.path.parent, anywhere=False)
    columns = [table.header.index(name) for name in known(table.header, file_columns(table.header))]
    return any(finder.find(cells[column]) for _, cells in table.rows for column in columns if column < len(cells))
