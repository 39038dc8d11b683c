"""Bytes of files that somebody else wrote."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from handlens.errors import InputError

Kind = Literal["image", "label", "annotations", "table", "settings", "yaml", "weights", "model"]

# The largest file of each kind that is read, in MB; our choice. HANDLENS_LIMIT_IMAGE=2000 sets another for images.
LIMITS: dict[Kind, int] = {
    "image": 512,
    "label": 64,  # of one image: XML, text, JSON
    "annotations": 2048,  # of a whole data set: COCO's training set has 450
    "table": 1024,
    "settings": 64,  # JSON of run folders
    "yaml": 1,  # PyYAML takes ten seconds for one
    "weights": 8192,
    "model": 8192,  # exported
}
CHUNK = 1 << 20
# A pipe is opened without waiting; where the system has these.
FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_CLOEXEC"):
    FLAGS |= getattr(os, _name, 0)
WHAT = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnreadableFileError(InputError):
    """A file cannot be opened or read.

    Attributes:
        reason: what is wrong, to be put after the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}.")
        self.reason = reason


class MissingFileError(UnreadableFileError):
    """There is no such file."""


def read_bytes(path: Path, kind: Kind) -> bytes:
    """A whole regular file, as long as it was when it was opened.

    Raises:
        UnreadableFileError: no regular file (at once, without opening it), larger than the limit of its kind, missing,
            or it cannot be read.
    """
    descriptor, size = _open(path)
    try:
        limit = limit_of(kind)
        if size > limit:
            raise UnreadableFileError(path, too_large(size, kind))
        parts = []
        while size > 0 and (part := _read(path, descriptor, min(size, 64 * CHUNK))):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)


def read_start(path: Path, length: int) -> bytes:
    """The first bytes of a regular file of any size.

    Raises:
        UnreadableFileError: as `read_bytes`.
    """
    with opened(path) as (descriptor, size):
        return _read(path, descriptor, min(size, length)) if size else b""


def check_file(path: Path, kind: Kind) -> Path:
    """For libraries that open files by themselves.

    Raises:
        UnreadableFileError: as `read_bytes`.
    """
    with opened(path) as (_, size):
        if size > limit_of(kind):
            raise UnreadableFileError(path, too_large(size, kind))
    return path


def sha256_of(path: Path) -> str:
    """
    Raises:
        UnreadableFileError: as `read_bytes`, of any size.
    """
    digest = hashlib.sha256()
    with opened(path) as (descriptor, size):
        while size > 0 and (part := _read(path, descriptor, min(size, CHUNK))):
            digest.update(part)
            size -= len(part)
    return digest.hexdigest()


def limit_of(kind: Kind) -> int:
    """In bytes.

    Raises:
        InputError: what the environment says is not a number.
    """
    name = f"HANDLENS_LIMIT_{kind.upper()}"
    stated = os.environ.get(name, "")
    if stated and not (stated.isascii() and stated.isdigit() and len(stated) < 10):
        raise InputError(f"{name} must be a number of MB, got {stated!r}.")
    return (int(stated) if stated else LIMITS[kind]) * 1_000_000


def too_large(size: int, kind: Kind) -> str:
    return (
        f"has {size / 1e6:,.0f} MB, above the limit of {limit_of(kind) / 1e6:,.0f} MB for this kind of file "
        f"(HANDLENS_LIMIT_{kind.upper()} sets another)"
    )


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, int]]:
    """(descriptor, size in bytes) of a regular file.

    Raises:
        UnreadableFileError: as `read_bytes`, of any size.
    """
    descriptor, size = _open(path)
    try:
        yield descriptor, size
    finally:
        os.close(descriptor)


def _open(path: Path) -> tuple[int, int]:
    """(descriptor, size in bytes).

    What is no regular file is not even opened: to open a pipe waits, to open a device may do anything. One that takes a
    file's place in between is opened without waiting, and noticed by its descriptor.
    """
    try:
        _need_regular(path, os.stat(path))  # noqa: PTH116 - a tenth of pathlib's time
        descriptor = os.open(path, FLAGS)
    except (OSError, ValueError) as error:
        raise _named(path, error) from None
    status = os.fstat(descriptor)
    try:
        _need_regular(path, status)
    except UnreadableFileError:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _read(path: Path, descriptor: int, length: int) -> bytes:
    try:
        return os.read(descriptor, length)
    except OSError as error:
        raise _named(path, error) from None


def _named(path: Path, error: Exception) -> UnreadableFileError:
    """What the system says as a sentence about the file."""
    if isinstance(error, UnreadableFileError):
        return error
    if isinstance(error, FileNotFoundError):
        return MissingFileError(path, "is missing")
    if isinstance(error, PermissionError):
        return UnreadableFileError(path, "cannot be read: permission is denied")
    # A link to itself, a name that is too long or has a zero byte, a failing disk, a share that went away.
    return UnreadableFileError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _need_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = WHAT.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UnreadableFileError(path, f"is {what}, not a file")
