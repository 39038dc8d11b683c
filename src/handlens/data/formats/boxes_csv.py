"""A table with a row per box: TensorFlow's, Kaggle's, Open Images' and RetinaNet's.

Corners (xmin, ymin, xmax, ymax), or the upper left corner or the center and a size (x, y, width, height), each in
columns of its own or in one cell, "[x, y, width, height]". Pixels at edges, or fractions of the image where no number
is above 1. Without a column of classes every box is an "object". A row without numbers is an image without objects.
RetinaNet's table has no header: file, x1, y1, x2, y2, class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handlens.data.config import CsvColumns, DataConfig
from handlens.data.decode import UnreadableImageError
from handlens.data.formats.assemble import Found, assemble_boxes, corners
from handlens.data.formats.class_names import named_classes
from handlens.data.formats.csv_file import (
    GROUP_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    Finder,
    Table,
    all_have_a_split,
    file_columns,
    known,
    load,
    not_named,
    optional_column,
    peek,
    split_in,
    tables_below,
)
from handlens.data.formats.label_files import image_size, remark
from handlens.data.formats.split_names import split_of
from handlens.data.labels.boxes import Box
from handlens.data.record import IMAGE_EXTENSIONS, Dataset, Remark, Split
from handlens.errors import InputError
from handlens.names import NUMBER

FORMAT = "boxes-csv"
NO_NAME = "object"
# Compared in lower case and without spaces, "_", "-" and ".".
LEFT = ("xmin", "left", "x1", "x0", "bboxxmin", "boxxmin", "bboxx1", "minx")
TOP = ("ymin", "top", "y1", "y0", "bboxymin", "boxymin", "bboxy1", "miny")
RIGHT = ("xmax", "right", "x2", "bboxxmax", "boxxmax", "bboxx2", "maxx")
BOTTOM = ("ymax", "bottom", "y2", "bboxymax", "boxymax", "bboxy2", "maxy")
CENTER_X, CENTER_Y = ("xcenter", "xc", "cx", "centerx"), ("ycenter", "yc", "cy", "centery")
CORNER_X, CORNER_Y = ("x", "bboxx", "boxx", "left"), ("y", "bboxy", "boxy", "top")
WIDTH = ("w", "width", "bboxwidth", "bboxw", "boxwidth", "boxw")
HEIGHT = ("h", "height", "bboxheight", "bboxh", "boxheight", "boxh")
ONE_CELL = ("bbox", "box", "boundingbox", "bndbox")
Numbers = Literal["corners", "corner", "center"]
CLASSES = (*LABEL_COLUMNS, "labelname", "object", "objectclass", "type", "name")


@dataclass(frozen=True)
class Where:
    """The columns of a box.

    Attributes:
        numbers: four columns, or the one whose cell has all four.
        kind: what the numbers are: two corners, or the upper left corner or the center with width and height.
    """

    numbers: tuple[int, ...]
    kind: Numbers

    def cells(self, row: Sequence[str]) -> list[str]:
        if len(self.numbers) == 1:
            return re.findall(r"[^\s,;\[\]()]+", row[self.numbers[0]])
        return [row[column] for column in self.numbers]


@dataclass(frozen=True)
class Row:
    """One box, or an image without any, as it stands in a table.

    Attributes:
        numbers: left, top, right, bottom; None without a box.
    """

    table: Table
    line: int
    file: str
    name: str
    numbers: tuple[float, float, float, float] | None
    split: Split | None
    group: str | None

    @property
    def where(self) -> str:
        return f"line {self.line} of {self.table.path.name}"


def recognize(path: Path) -> bool:
    """A table with files and boxes."""
    return any(_fits(peek(table)) for table in tables_below(path))


def has_boxes(path: Path, columns: CsvColumns) -> bool:
    """Whether the stated table, or one of those that are there, has them."""
    tables = [path / columns.path] if columns.path is not None else tables_below(path)
    peeked = [peek(table, encoding=columns.encoding) for table in tables]
    named = columns.file is not None and any(box_columns(table.header) for table in peeked)
    return named or any(map(_fits, peeked))


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no table of boxes, or several that are not one per split; a row that is none; no image is there; no
            box at all.
    """
    columns = config.csv or CsvColumns.model_validate({})
    tables = _tables(path, columns)
    rows: list[Row] = []
    for table in tables:
        rows += _rows(table, columns, _split_of(table.path) if len(tables) > 1 else None)
    finders = {table.path: Finder(path, table.path.parent) for table in tables}
    by_image: dict[Path, list[Row]] = {}
    missing: dict[str, None] = {}
    for row in rows:
        image = finders[row.table.path].find(row.file)
        if image is None:
            missing[row.file] = None
        else:
            by_image.setdefault(image, []).append(row)
    names = ", ".join(table.path.relative_to(path).as_posix() for table in tables)
    if not by_image:
        raise InputError(
            f"none of the {len(missing)} images that {names} lists is there ({', '.join([*missing][:5])}); paths are "
            "relative to the table or the data folder, or are names of images anywhere below it."
        )
    fractions = _are_fractions([row.numbers for row in rows if row.numbers])
    labels = {row.name: f"{row.where}: " for row in reversed(rows) if row.numbers}
    class_names, index, merged = named_classes(labels, config)
    found = []
    for image, its in by_image.items():
        boxes: tuple[Box, ...] | None = None
        try:
            height, width = image_size(image) if fractions else (1, 1)
            boxes = tuple(corners(index[row.name], *_scaled(row.numbers, width, height)) for row in its if row.numbers)
        except UnreadableImageError:
            pass  # the audit names it
        splits = {row.split for row in its}
        if len(splits) > 1:
            raise InputError(f"{its[0].file} has rows in two splits ({its[0].where}, {its[-1].where}); keep it in one.")
        found.append(Found(path=image, label=boxes, split=its[0].split, group=its[0].group))
    all_have_a_split(found, names)
    unit = "fractions of the image" if fractions else "pixels, measured at edges"
    notes: list[str | Remark] = [f"table {names}: {len(rows)} rows of boxes in {unit}", *merged]
    if missing:
        notes.append(remark("listed_missing", "skipped, listed but not found", missing))
    notes += not_named(path, config, {*by_image})
    return assemble_boxes(path, format=FORMAT, class_names=class_names, found=found, config=config, notes=notes)


def box_columns(header: Sequence[str]) -> Where | None:
    """Where boxes stand in a table; None where its columns are not called so."""
    plain = [re.sub(r"[\s_.-]", "", name.lower()) for name in header]

    def place(names: Sequence[str]) -> int | None:
        return next((plain.index(name) for name in names if name in plain), None)

    ways: tuple[tuple[tuple[Sequence[str], ...], Numbers], ...] = (
        ((LEFT, TOP, RIGHT, BOTTOM), "corners"),
        ((CENTER_X, CENTER_Y, WIDTH, HEIGHT), "center"),
        ((CORNER_X, CORNER_Y, WIDTH, HEIGHT), "corner"),
        ((("xmin", "x1"), ("ymin", "y1"), WIDTH, HEIGHT), "corner"),
        ((ONE_CELL,), "corner"),
    )
    for spellings, kind in ways:
        places = [place(names) for names in spellings]
        if all(column is not None for column in places):
            return Where(tuple(column for column in places if column is not None), kind)
    return None


def _fits(table: Table) -> bool:
    return (box_columns(table.header) is not None and bool(file_columns(table.header))) or _without_header(table)


def _without_header(table: Table) -> bool:
    """RetinaNet's: the first line is a row already."""
    cells = table.header
    numbers = cells[1:5]
    return (
        len(cells) == 6
        and Path(cells[0]).suffix.lower() in IMAGE_EXTENSIONS
        and (all(map(NUMBER.fullmatch, numbers)) or not any(cells[1:]))
        and not NUMBER.fullmatch(cells[5])
    )


def _tables(path: Path, columns: CsvColumns) -> list[Table]:
    """The one that is stated, the one that fits, or one for each split."""
    if columns.path is not None:
        return [load(path / columns.path, encoding=columns.encoding)]
    peeked = [peek(table, encoding=columns.encoding) for table in tables_below(path)]
    fitting = [one.path for one in peeked if _fits(one) or (columns.file in one.header and box_columns(one.header))]
    splits = [_split_of(table) for table in fitting]
    if len(fitting) > 1 and (None in splits or len(set(splits)) < len(splits)):
        names = ", ".join(table.relative_to(path).as_posix() for table in fitting)
        raise InputError(f"{path} has several tables of boxes ({names}); choose one with csv: path in handlens.yaml.")
    if not fitting:
        raise InputError(
            f"{path} has no table with a column of files and columns of boxes, such as filename, class, xmin, ymin, "
            "xmax, ymax; name it with csv: path in handlens.yaml."
        )
    return [load(table, encoding=columns.encoding) for table in fitting]


def _split_of(table: Path) -> Split | None:
    """By its own name, train_labels.csv, or its folder's, train/_annotations.csv."""
    return split_of(table.stem) or split_of(table.parent.name)


def _rows(table: Table, columns: CsvColumns, split: Split | None) -> list[Row]:
    if _without_header(table):
        header = ["file", "x1", "y1", "x2", "y2", "class"]
        table = Table(table.path, header, [(1, table.header), *table.rows])
    where = box_columns(table.header)
    if where is None:
        raise InputError(f"{table.path.name} has no columns of boxes; it has {', '.join(table.header)}.")
    file = optional_column(table, "file", columns.file, file_columns(table.header))
    if file is None:
        raise InputError(f"{table.path.name} has no column of files; it has {', '.join(table.header)}.")
    stated = columns.label or next(iter(known(table.header, CLASSES)), None)
    name = None if stated is None else optional_column(table, "label", stated, ())
    splits = optional_column(table, "split", columns.split, SPLIT_COLUMNS)
    group = optional_column(table, "group", columns.group, GROUP_COLUMNS)
    found = []
    for line, cells in table.rows:
        texts = where.cells(cells)
        numbers = _numbers(texts, where, f"line {line} of {table.path.name}") if any(texts) else None
        found.append(
            Row(
                table=table,
                line=line,
                file=cells[file],
                name=NO_NAME if name is None or not cells[name] else cells[name],
                numbers=numbers,
                split=split if splits is None else split_in(cells[splits], table=table, line=line),
                group=None if group is None else cells[group] or None,
            )
        )
    return found


def _numbers(texts: Sequence[str], where: Where, place: str) -> tuple[float, float, float, float]:
    values = [float(text) if NUMBER.fullmatch(text) else math.nan for text in texts]
    if len(values) != 4 or not all(map(math.isfinite, values)):
        shown = " ".join(texts)
        raise InputError(f"{place} has {shown!r:.60} where the four numbers of a box are expected.")
    first, second, third, fourth = values
    if where.kind == "corners":
        return first, second, third, fourth
    left, top = (first, second) if where.kind == "corner" else (first - third / 2, second - fourth / 2)
    return left, top, left + third, top + fourth


def _are_fractions(boxes: Sequence[tuple[float, ...]]) -> bool:
    """Boxes in pixels are never all within one pixel."""
    return bool(boxes) and all(-0.01 <= value <= 1.01 for box in boxes for value in box)


def _scaled(box: tuple[float, float, float, float] | None, width: int, height: int) -> tuple[float, ...]:
    assert box is not None
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height
