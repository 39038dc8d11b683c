"""What `predict` writes whatever the task: CSV, JSON lines, text, annotated copies, one contact sheet."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.budget import BUDGET
from handlens.files import atomic_path
from handlens.flow.sheets import SHEET_LIMIT, TILE, save_sheet, sheet_format, thumbnail
from handlens.names import as_json, for_csv, for_terminal
from handlens.results import Prediction, Result
from handlens.tasks.sinks import Shown, new_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif")  # copied as JPEG: as PNG they would take three times the room


@contextmanager
def csv_table(file: Path, kind: type[Result], *, top: int) -> Iterator[Callable[[Prediction], None]]:
    """A CSV (UTF-8 with BOM) of id, what the results say, and error. An image has a row at least, with detection one
    per object, with segmentation one per class.

    It appears whole or not at all; where Ctrl-C ended it, the rows so far are kept beside it as NAME.partial.csv, and
    the KeyboardInterrupt has a note that says so.

    Args:
        kind: of the results, for the columns.
        top: classes per image.
    """
    columns = kind.columns(top)
    images = 0
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["id", *columns, "error"])

        def write(prediction: Prediction) -> None:
            nonlocal images
            images += 1
            for row in _rows(prediction, top):
                padding = [""] * (len(columns) - len(row))
                cells = [str(prediction.path), *row, *padding, prediction.error or ""]
                rows.writerow(map(for_csv, cells))

        try:
            yield write
        except KeyboardInterrupt as stop:
            text.flush()
            partial = file.with_suffix(f".partial{file.suffix}")
            with atomic_path(partial) as kept:
                shutil.copyfile(temporary, kept)
            stop.add_note(f"stopped; the {images} predictions so far are in {partial}.")
            raise


@contextmanager
def json_lines(print_line: Callable[[str], None], *, top: int) -> Iterator[Callable[[Prediction], None]]:
    """One JSON object per image."""

    def write(prediction: Prediction) -> None:
        result = prediction.result
        said: dict[str, Any] = result.to_dict(top) if result else {"error": prediction.error}
        print_line(as_json({"id": str(prediction.path)} | said))

    yield write


@contextmanager
def text_lines(print_line: Callable[[str], None], *, top: int) -> Iterator[Callable[[Prediction], None]]:
    """The rows of the table, with tabs between the columns; nothing of what could not be read."""

    def write(prediction: Prediction) -> None:
        for row in _rows(prediction, top) if prediction.result else ():
            print_line("\t".join(map(for_terminal, [str(prediction.path), *row])))

    yield write


def _rows(prediction: Prediction, top: int) -> list[list[str]]:
    """An image of which there is nothing to say has a row all the same."""
    return (prediction.result.rows(top) if prediction.result else []) or [[]]


@contextmanager
def annotated_copies(folder: Path) -> Iterator[Callable[[Shown], None]]:
    """Copies with the answer on them or below: JPEG of JPEG, else PNG."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(image: Shown) -> None:
        from PIL import Image

        photo = image.path.suffix.lower() in PHOTOS
        suffix, format = (".jpg", "JPEG") if photo else (".png", "PNG")
        with BUDGET.hold(), atomic_path(new_name(folder, image.path, suffix=suffix)) as temporary:
            Image.fromarray(image.drawn()).save(temporary, format, **({"quality": 90} if photo else {}))

    yield write


@contextmanager
def contact_sheet(file: Path) -> Iterator[Callable[[Shown], None]]:
    """One sheet of the first SHEET_LIMIT images, written at the end.

    Raises:
        InputError: the name is not that of a PNG or JPEG.
    """
    sheet_format(file)
    tiles: list[NDArray[Any]] = []
    captions: list[str] = []

    def write(image: Shown) -> None:
        if len(tiles) < SHEET_LIMIT:
            tile = image.tile(TILE)
            tiles.append(tile if image.result.on_pixels else thumbnail(tile))
            captions.append(f"{image.path.name}\n{image.result.caption()}")

    yield write
    if tiles:
        save_sheet(tiles, captions, file)
