"""A folder of images without labels, for prediction."""

from __future__ import annotations

from pathlib import Path

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found, assemble
from handlens.data.listing import LeftAside, Tree
from handlens.data.record import Dataset

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
    return assemble(path, format=FORMAT, found=found, config=config, notes=aside.notes())
