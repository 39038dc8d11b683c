"""Results of converters, kept in the cache by the content of what they were given: minutes become a second."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from handlens.errors import InputError
from handlens.files import cache_folder, write_json
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json

DIGESTS = "digests.json"  # of a result's files, in order: what a power cut or a full disk has left of them is not taken
ABANDONED = 24 * 3600  # seconds after which a result that is not whole is that of a process that was killed
ROOM = 2e9  # bytes of all results; the oldest are thrown away
LARGEST = 5e8  # bytes of one result, of which greater ones are not kept


def key_of(parts: Sequence[str | Path], outputs: Sequence[Path]) -> str:
    """What a result depends on.

    Args:
        parts: texts, and files, which count by their content.
        outputs: of these paths only that they are outputs.
    """
    names = {str(path) for path in outputs}
    counted = hashlib.sha256()
    for part in parts:
        text = str(part)
        if text in names:
            text = "output"
        elif isinstance(part, Path):
            text = sha256_of(part)
        counted.update(f"{len(text)}:{text}".encode())
    return counted.hexdigest()


def taken(key: str, outputs: Sequence[Path]) -> bool:
    """Copy a kept result to where it is wanted, if there is a whole one."""
    folder = _folder() / key
    if not folder.is_dir():
        return False
    try:
        for number, path in enumerate(outputs):
            shutil.copyfile(folder / str(number), path)
        whole = [sha256_of(path) for path in outputs] == read_json(folder / DIGESTS)
    except (OSError, InputError):  # it is damaged, or another process has just thrown it away
        whole = False
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    with contextlib.suppress(OSError):  # a cache that is read only
        os.utime(folder)  # used just now
    return True


def keep(key: str, outputs: Sequence[Path]) -> None:
    if sum(path.stat().st_size for path in outputs) > LARGEST:
        return
    with contextlib.suppress(OSError):  # no room, or no right to write: the conversion itself is done
        _keep(key, outputs)


def _keep(key: str, outputs: Sequence[Path]) -> None:
    _folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_folder(), prefix=".new") as made:
        ready = Path(made) / key
        ready.mkdir()
        for number, path in enumerate(outputs):
            shutil.copyfile(path, ready / str(number))
        write_json(ready / DIGESTS, [sha256_of(path) for path in outputs])
        try:
            ready.rename(_folder() / key)
        except OSError:  # another process was sooner, with the same content
            return
    _throw_away_the_oldest()


def _throw_away_the_oldest() -> None:
    for folder in _folder().glob(".new*"):
        if time.time() - folder.stat().st_mtime > ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)
    found = sorted(_folder().glob("[!.]*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    total = 0
    for folder in found:
        total += sum(path.stat().st_size for path in folder.iterdir())
        if total > ROOM:
            shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    return cache_folder() / "conversions"
