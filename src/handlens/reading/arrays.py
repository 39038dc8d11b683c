"""Arrays of NumPy's archives (.npz) that may be damaged, or somebody else's."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.reading.files import Kind, UnreadableFileError, read_bytes


def read_arrays(path: Path, kind: Kind = "weights") -> dict[str, NDArray[Any]]:
    """By name; never code.

    Raises:
        UnreadableFileError: the file cannot be read, is damaged, or holds something else than arrays of numbers.
    """
    content = read_bytes(path, kind)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, KeyError, AttributeError, EOFError, OSError, zipfile.BadZipFile, zlib.error, MemoryError):
        raise UnreadableFileError(path, "is damaged: it is no whole archive of arrays") from None
