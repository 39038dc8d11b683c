"""A folder of images without labels, for prediction."""

from __future__ import annotations

from pathlib import Path

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found, assemble
from handlens.data.formats.csv_file import peek, tables_below
from handlens.data.listing import LeftAside, Tree
from handlens.data.record import Dataset, Remark

FORMAT = "flat"


def recognize(path: Path) -> bool:
    """Whether there is any image: every labeled format fits as well, so this one is asked last."""
    return Tree(path).has_images(path)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: there is no image.
    """
    aside = LeftAside()
    tree = Tree(path, ignore=tuple(config.ignore))
    found = [Found(path=image) for image in tree.images(path, aside=aside)]
    notes: list[str | Remark] = [*aside.notes()]
    for table in map(peek, tables_below(path)):
        columns = ", ".join(table.header[:12]) or "no columns"
        message = (
            f"{tree.id(table.path)} is not read: of {columns} none is known as a column of files and one of labels; "
            "name them with csv: file and csv: label in handlens.yaml"
        )
        notes.append(Remark(code="table_unread", message=message, files=(tree.id(table.path),), lost=False))
    return assemble(path, format=FORMAT, found=found, config=config, notes=notes)
