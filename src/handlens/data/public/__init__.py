"""Public data sets by name: fetched, verified, and laid out as handlens reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from handlens.data.download import DownloadError, download, has_digest
from handlens.data.public.catalogue import SETS, PublicFile, PublicSet
from handlens.errors import InputError, nearest
from handlens.files import cache_folder

__all__ = ["SETS", "PublicFile", "PublicSet", "get_set"]

Say = Callable[[str], None]
Progress = Callable[[str, int, int | None], None]


def get_set(
    name: str, folder: Path, *, source: Path | None = None, say: Say | None = None, progress: Progress | None = None
) -> Path:
    """Fetch a set, verify it and lay it out in a new folder, which appears whole or not at all.

    The published files are kept in the cache, so that a fetch that broke goes on where it stopped.

    Args:
        source: a folder with the published files, or the one file, in place of the network. Left as it is.
        progress: takes (what, done, total).

    Returns:
        the folder.

    Raises:
        InputError: no such set; the folder is not empty; a file cannot be had, or is not the published one.
    """
    say, progress = say or (lambda text: None), progress or (lambda what, done, total: None)
    if name not in SETS:
        raise InputError(f"unknown public data set {name!r}; {nearest(name, SETS)}.")
    chosen = SETS[name]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; choose a new folder, nothing is overwritten.")
    files = _from_source(name, chosen, source, say) if source else _fetched(name, chosen, say, progress)
    say(f"{name}: {chosen.about}. License: {chosen.license}.")
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    new.mkdir(parents=True)
    try:
        chosen.unpack(files, new, lambda done, total: progress("unpacking", done, total))
        if folder.is_dir():
            folder.rmdir()
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _from_source(name: str, chosen: PublicSet, source: Path, say: Say) -> list[Path]:
    """The files of the user's own."""
    if not source.exists():
        raise InputError(f"{source} does not exist.")
    if source.is_file() and len(chosen.files) > 1:
        source = source.parent
    found = []
    for file in chosen.files:
        path = source if source.is_file() else _there(source, file)
        if path is None:
            raise InputError(f"{source} has no {file.name}; {name} needs {', '.join(f.name for f in chosen.files)}.")
        if file.digest is not None and not has_digest(path, file.digest):
            say(f"{path.name} does not match the published checksum; it is used as it is.")
        found.append(path)
    return found


def _there(folder: Path, file: PublicFile) -> Path | None:
    """The file in a folder, also unpacked from its .gz."""
    names = (file.name, file.name.removesuffix(".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _fetched(name: str, chosen: PublicSet, say: Say, progress: Progress) -> list[Path]:
    """The files in the cache, from an installed package or from their publisher."""
    if chosen.installed is not None and all(_there(chosen.installed, file) for file in chosen.files):
        say(f"Using {chosen.installed}, from an installed package.")
        return [path for file in chosen.files if (path := _there(chosen.installed, file))]
    unreachable = [file.name for file in chosen.files if not file.urls]
    if unreachable:
        raise InputError(f"{name} cannot be downloaded automatically: {chosen.by_hand}")
    cache = cache_folder() / "sets" / name
    return [_fetch(name, chosen, file, cache / file.name, progress) for file in chosen.files]


def _fetch(name: str, chosen: PublicSet, file: PublicFile, path: Path, progress: Progress) -> Path:
    assert file.digest is not None  # nothing is fetched that cannot be verified: tests/data/test_public.py
    if path.is_file() and has_digest(path, file.digest):
        return path
    reasons = []
    for url in file.urls:
        if os.environ.get("HANDLENS_OFFLINE") == "1":
            reasons.append("no download was tried, because HANDLENS_OFFLINE=1")
            break
        try:
            download(url, path, progress=lambda done, total: progress(f"fetching {file.name}", done, total))
        except DownloadError as error:
            reasons.append(str(error))
            continue
        if has_digest(path, file.digest):
            return path
        path.unlink()
        reasons.append("the server has a different file than the published one")
    addresses = " ".join(file.urls[0] for file in chosen.files if file.urls)
    raise InputError(
        f"{file.name} of {name} cannot be downloaded: {'; '.join(dict.fromkeys(reasons))}. On a computer "
        f"with a network, download {addresses} and pass their folder with --from."
    )
