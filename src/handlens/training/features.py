"""What the frozen backbone says of each image, computed once per content and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from handlens.data.record import Record
from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.preprocess import Preprocess
from handlens.runtimes.engine import Arrays, Engine
from handlens.runtimes.names import FEATURES
from handlens.runtimes.stream import Load, answers, load_pixels

DECODED = "decoded whole"  # part of the key: images that were reduced by the decoder have other features
PATIENCE = 60  # seconds that a process waits for another that writes
KEY = np.dtype([("digest", "S32"), ("norm", "<f4"), ("columns", "<u4")])  # of a row


class FeatureCache:
    """Features by the image's content: a matrix on disk for each (backbone, preprocess, precision, augmentation), and
    beside it a table with a key for each row.

    An image that is renamed, moved or copied is found again; one that is edited is not. A row counts once its key is
    there, which is after the row lies on the disk: neither a process that is killed nor two that write at once leave a
    wrong one.

    Raises:
        InputError: the cache cannot be written, here and in `put`.
    """

    def __init__(self, *key: str) -> None:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        self._folder = cache_folder() / "features"
        self._matrix, self._keys, self._lock = (self._folder / f"{name}.{end}" for end in ("f32", "keys", "lock"))
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)

    def find(self, digests: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """For each SHA-256, the row of `matrix` that is its image's, -1 where there is none; and the Euclidean norm."""
        keys = self._known()
        if not len(keys) or not len(digests):
            return np.full(len(digests), -1), np.zeros(len(digests), dtype=np.float32)
        asked = _binary(digests)
        order = keys["digest"].argsort(kind="stable")
        places = np.searchsorted(keys["digest"], asked, sorter=order)
        rows = order[np.minimum(places, len(keys) - 1)]
        there = keys["digest"][rows] == asked
        return np.where(there, rows, -1), np.where(there, keys["norm"][rows], 0)

    def rows(self, digests: Sequence[str]) -> NDArray[np.int64]:
        """As `find`, of digests that were all put.

        Raises:
            InputError: one is not there any more.
        """
        rows, _ = self.find(digests)
        if (rows < 0).any():
            raise InputError(f"the cache {self._folder} was emptied while it was used; run the command again.")
        return rows

    def matrix(self) -> NDArray[np.float32]:
        """(M, D), mapped from the disk."""
        keys = self._known()
        if not len(keys):
            return np.empty((0, 0), dtype=np.float32)
        return np.memmap(self._matrix, dtype=np.float32, mode="r", shape=(len(keys), int(keys["columns"][0])))

    def put(self, features: Sequence[tuple[str, NDArray[np.float32]]]) -> None:
        """Add the rows (D,) of these digests; those that are there stay as they are."""
        if not features:
            return
        with self._writing(), FileLock(self._lock, timeout=PATIENCE):
            there = self.find([digest for digest, _ in features])[0] >= 0
            new = {digest: row for (digest, row), known in zip(features, there, strict=True) if not known}
            if not new:
                return
            rows = np.stack(list(new.values())).astype(np.float32)
            known = self._known()
            keys = np.zeros(len(new), dtype=KEY)
            keys["digest"], keys["columns"] = _binary(list(new)), rows.shape[1]
            keys["norm"] = np.linalg.norm(rows.astype(np.float64), axis=1)
            _append(self._matrix, rows.tobytes(), behind=len(known) * rows[0].nbytes)
            _append(self._keys, keys.tobytes(), behind=known.nbytes)

    def _known(self) -> NDArray[Any]:
        """The keys of the rows that count; none where the matrix was removed or cut off, or something is damaged."""
        try:
            keys = np.fromfile(self._keys, dtype=KEY)  # without half a key at the end
            size = self._matrix.stat().st_size
        except FileNotFoundError:
            return np.empty(0, dtype=KEY)
        columns = keys["columns"][:1]
        whole = bool((keys["columns"] == columns).all()) and 4 * len(keys) * int(columns.sum()) <= size
        return keys if whole else keys[:0]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # also that another process never lets go of it
            raise InputError(
                f"the cache {self._folder} cannot be written ({error}); set XDG_CACHE_HOME to a folder that can."
            ) from None


def _append(path: Path, content: bytes, *, behind: int) -> None:
    """Write behind so many bytes that count, in place of what a killed process had not finished."""
    with path.open("ab") as file:
        file.truncate(behind)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _binary(digests: Sequence[str]) -> NDArray[np.bytes_]:
    """(N,) of 32 bytes each, of SHA-256 in hexadecimal."""
    return np.frombuffer(bytes.fromhex("".join(digests)), dtype="S32")


def feature_cache(backbone: str, preprocess: Preprocess, precision: str, augmented: str = "") -> FeatureCache:
    """Of images that a backbone sees as `cached_features` says."""
    return FeatureCache(backbone, json.dumps(preprocess.to_dict(), sort_keys=True), precision, augmented, DECODED)


def complete(
    cache: FeatureCache,
    files: Mapping[str, Path],
    *,
    engine: Callable[[], Engine],
    preprocess: Preprocess,
    load: Load = load_pixels,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Compute the features that a cache lacks, and keep them there.

    Args:
        files: an image by the SHA-256 of its content.
        engine: makes the engine of an EmbedGraph; called for the first image that can be read.

    Returns:
        Why an image cannot be read, by digest.
    """
    rows, _ = cache.find(list(files))
    missing = {digest: path for (digest, path), row in zip(files.items(), rows, strict=True) if row < 0}
    unreadable: dict[str, str] = {}
    fresh: list[tuple[str, NDArray[np.float32]]] = []
    results = answers(missing.values(), _WhenNeeded(engine), preprocess=preprocess, load=load)
    for done, (digest, answer) in enumerate(zip(missing, results, strict=True), start=len(files) - len(missing) + 1):
        if answer.arrays is None:
            unreadable[digest] = answer.error or ""
        else:
            fresh.append((digest, answer.arrays[FEATURES]))
        if len(fresh) == 256:  # a kill costs at most this many
            cache.put(fresh)
            fresh = []
        if progress:
            progress(done, len(files))
    cache.put(fresh)
    return unreadable


def cached_features(
    records: Sequence[Record],
    *,
    engine: Callable[[], Engine],
    preprocess: Preprocess,
    backbone: str,
    precision: str,
    digests: dict[str, str],
    augmented: str = "",
    load: Load = load_pixels,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """(N, D) features in the order of the records.

    Args:
        engine: makes the engine of an EmbedGraph; called only where something is missing.
        backbone: SHA-256 of the frozen weights and the architecture.
        digests: SHA-256 of each image's file by id.
        augmented: what `load` does besides Preprocess; part of the key.
        load: from a file to pixels.

    Raises:
        InputError: an image that could be read a moment ago cannot be read now.
    """
    cache = feature_cache(backbone, preprocess, precision, augmented)
    wanted = [digests[record.id] for record in records]
    files = {digest: record.path for digest, record in zip(wanted, records, strict=True)}
    unreadable = complete(cache, files, engine=engine, preprocess=preprocess, load=load, progress=progress)
    for digest, record in zip(wanted, records, strict=True):
        if digest in unreadable:
            raise InputError(f"{record.id} can no longer be read: {unreadable[digest]}")
    return np.asarray(cache.matrix()[cache.rows(wanted)])


class _WhenNeeded:
    """An engine that is opened for the first batch: where no file can be read, none is."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        waiting = iter(batches)
        for first in waiting:
            yield from self._engine().stream(chain([first], waiting))
