"""What `similar` writes: a table, and contact sheets of a query with its neighbors or of groups."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.files import atomic_path
from handlens.flow.sheets import SHEET_LIMIT, TILE, save_sheet, sheet_format, thumbnail
from handlens.names import for_csv, for_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = 6  # of a sheet of groups
FONT = 13  # pixels, of captions below tiles of this size
NAME_LINES = 4
LINE = (170, 178, 189)  # between two groups, RGB

Found = Mapping[str, Any]  # "file" and "similarity"


def write_table(path: Path, place: str, rows: Iterable[tuple[int, Found]]) -> None:
    """A CSV (UTF-8 with BOM).

    Args:
        place: what the numbers are: "rank" or "group".
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as text:
        table = csv.writer(text)
        table.writerow([place, "file", "similarity"])
        table.writerows([number, for_csv(one["file"]), one["similarity"]] for number, one in rows)


def save_neighbors(query: Path, neighbors: Sequence[Found], path: Path) -> None:
    """The query, then its neighbors, the first SHEET_LIMIT, each with its name and similarity."""
    shown = neighbors[: SHEET_LIMIT - 1]
    captions = [f"query\n{_name(query)}", *map(_caption, shown)]
    save_sheet([_tile(query), *(_tile(Path(one["file"])) for one in shown)], captions, path)


def save_groups(groups: Sequence[Sequence[Found]], path: Path) -> None:
    """Every group on rows of its own, with a line between two, up to SHEET_LIMIT images."""
    import numpy as np
    from PIL import Image

    strips: list[NDArray[np.uint8]] = []
    room = SHEET_LIMIT
    for number, group in enumerate(groups, start=1):
        if room < 2:
            break
        strips.append(_strip(number, group[:room]))
        room -= len(group)
    width = max(strip.shape[1] for strip in strips)
    parts: list[NDArray[np.uint8]] = []
    for strip in strips:
        padded = np.full((strip.shape[0], width, 3), 255, dtype=np.uint8)
        padded[:, : strip.shape[1]] = strip
        parts += [padded, np.full((2, width, 3), LINE, dtype=np.uint8)]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(parts[:-1])).save(temporary, sheet_format(path))


def _strip(number: int, group: Sequence[Found]) -> NDArray[np.uint8]:
    from handlens.evaluation.contact_sheet import contact_sheet

    captions = [f"group {number}\n{_caption(one)}" for one in group]
    columns = min(COLUMNS, len(group))
    return contact_sheet((_tile(Path(one["file"])) for one in group), captions, columns=columns, tile=TILE)


def _caption(one: Found) -> str:
    return f"{_name(Path(one['file']))}\n{one['similarity']:.4f}"


def _name(path: Path) -> str:
    """A file's name, whatever is in it, on as many lines as it takes up to NAME_LINES: names of one camera begin alike,
    and are told apart by their ends."""
    from handlens.fonts import label_font

    name = for_picture(path.name)
    font = label_font(name, FONT)
    lines = [""]
    for character in name:
        if lines[-1] and font.getlength(lines[-1] + character) > TILE:
            lines.append("")
        lines[-1] += character
    return "\n".join([*lines[: NAME_LINES - 1], "".join(lines[NAME_LINES - 1 :])]).rstrip("\n")


def _tile(path: Path) -> NDArray[np.uint8]:
    from handlens.data.decode import decode

    return thumbnail(decode(path, at_least=(TILE, TILE)))
