"""Files that are either the old ones or the new ones, never half of each."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handlens.names import as_json, for_file


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/handlens`, or `~/.cache/handlens`. Not created here."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "handlens"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error.

    The new bytes are on the disk (fsync) before the name changes, so that a power cut or a full
    disk leaves the old file whole. The temporary file is removed when the block fails.

    Raises:
        OSError: whatever the block or the file system raises, for example a full disk.
    """
    path = path.resolve() if path.is_symlink() else path  # a link stays one
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device: it would be replaced by a file
        raise OSError(errno.EINVAL, "is no regular file, which can be replaced", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{for_file(path.name)}.", suffix=".new")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # bytes of names that are no UTF-8


def write_json(path: Path, value: Any) -> None:
    write_text(path, as_json(value, indent=2) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder to sync it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
