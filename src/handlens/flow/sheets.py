"""Contact sheets as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.files import atomic_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.data.check import Audit

SHEET_LIMIT = 400  # tiles; a sheet of more is no longer looked at
MOST_SUSPECTS = 100  # suspected label errors on a sheet: those behind them are mostly right
TILE = 160  # pixels


def suspects_sheet(audit: Audit, suspected: Sequence[dict[str, Any]], path: Path) -> Path:
    """A contact sheet of images with a suspected label error."""
    from handlens.data.decode import decode

    files = {record.id: record.path for record in audit.dataset.records}
    shown = suspected[:MOST_SUSPECTS]
    tiles = [thumbnail(decode(files[entry["file"]], at_least=(TILE, TILE))) for entry in shown]
    captions = [
        f"{files[entry['file']].name}\n{entry['label']}? {entry['suggested']} {100 * entry['probability']:.0f} %"
        for entry in shown
    ]
    return save_sheet(tiles, captions, path)


def save_sheet(tiles: Sequence[NDArray[Any]], captions: Sequence[str], path: Path) -> Path:
    """
    Raises:
        InputError: the name does not end in .png, .jpg or .jpeg.
    """
    from PIL import Image

    from handlens.evaluation.contact_sheet import contact_sheet

    format = sheet_format(path)
    with atomic_path(path) as temporary:
        side = max(max(tile.shape[:2]) for tile in tiles)
        Image.fromarray(contact_sheet(tiles, captions, tile=max(TILE, side))).save(temporary, format)
    return path


def sheet_format(path: Path) -> str:
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise InputError(f"a contact sheet is a .png or .jpg file, got {path}.")
    return kinds[path.suffix.lower()]


def thumbnail(image: NDArray[Any]) -> NDArray[Any]:
    """A copy no larger than a tile, so that a sheet of many images stays small in memory."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((TILE, TILE))
    return np.asarray(small)
