"""Images and labels in: formats on disk, one decoder, the audit, the split, what training is fed.

`open_dataset` reads a folder of any known layout into a `Dataset`; `walk` lists files and folders for prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handlens.data.record import Dataset


def open_dataset(
    path: Path | str,
    *,
    format: str | None = None,
    config: Path | None = None,
    task: str | None = None,
    whole: bool = False,
) -> Dataset:
    """Read a folder of images and what is known about each.

    Args:
        path: the folder.
        format: a key of `formats.READERS`, such as "folders" (one per class), "voc" or "flat" (no labels); None
            recognizes it.
        config: a handlens.yaml; None takes the one in the folder, where there is one.
        task: what the labels shall be for, where they serve several; None is what the format says.
        whole: keep what the files say beyond the labels, which `data.convert.convert` needs of COCO: outlines, ids and
            keys that no other format has. They take several times the room of the files.

    Raises:
        InputError: the folder is missing, is a file, or holds no images; two formats match; files that a table
            names are missing; the configuration is wrong.
    """
    from handlens.data.formats import read  # pydantic and yaml load with it: prediction starts without them

    return read(Path(path), format=format, config=config, task=task, whole=whole)


def walk(paths: Iterable[Path | str]) -> Iterator[Path]:
    """Files as they are given, folders as the images below them; lazily, for prediction over any number.

    The order of `paths` is kept; below a folder paths come sorted by code point. Hidden files and files that are no
    images are skipped in folders. A file that is named, a path that is missing and a folder that cannot be listed
    are handed on, so that whoever opens them reports each and goes on with the rest.
    """
    from handlens.data.listing import Tree

    for path in map(Path, paths):
        if path.is_dir():
            yield from Tree(path, hand_on_unlistable=True).images(path)
        else:
            yield path
