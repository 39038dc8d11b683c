"""What the frozen backbone says of each image, computed once per content and kept."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.record import Record
from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.preprocess import Preprocess
from handlens.runtimes.engine import Arrays, Engine
from handlens.runtimes.names import FEATURES
from handlens.runtimes.stream import Load, answers, load_pixels

DECODED = "decoded whole"  # part of the key: images that were reduced by the decoder have other features
ASKED = 500  # digests in one question to the table


class FeatureCache:
    """Features by the image's content: a matrix on disk for each (backbone, preprocess, precision, augmentation).

    An image that is renamed, moved or copied is found again; one that is edited is not. A table says which row is
    whose. A row counts once the table names it, which is after it lies on the disk: neither a process that is killed
    nor two that write at once leave a wrong one.

    Raises:
        InputError: the cache cannot be written, here and in `put`.
    """

    def __init__(self, *key: str) -> None:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        folder = cache_folder() / "features"
        self._matrix, self._table = folder / f"{name}.f32", folder / f"{name}.rows"
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            # Transactions begin where we say.
            self._database = sqlite3.connect(self._table, timeout=60, isolation_level=None)
            self._open()

    def _open(self) -> None:
        try:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS rows (place INTEGER PRIMARY KEY, digest TEXT UNIQUE NOT NULL, norm REAL)"
            )
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # it is damaged; what it says can be computed again
            self._database.close()
            self._table.unlink()
            self._database = sqlite3.connect(self._table, timeout=60, isolation_level=None)
            self._open()
        count, columns = self._shape()
        if count and (not self._matrix.is_file() or self._matrix.stat().st_size < 4 * count * columns):
            self._database.execute("DELETE FROM rows")  # the matrix was removed or cut off

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"the cache {self._table.parent} cannot be written ({error}); set XDG_CACHE_HOME to a folder that can."
            ) from None

    def find(self, digests: Iterable[str]) -> dict[str, tuple[int, float]]:
        """(row of `matrix`, Euclidean norm) by digest, of those that are there; the norm is nan of what has a nan."""
        found, asked = {}, list(digests)
        for start in range(0, len(asked), ASKED):
            several = asked[start : start + ASKED]
            marks = ", ".join("?" * len(several))
            for digest, place, norm in self._database.execute(
                f"SELECT digest, place, norm FROM rows WHERE digest IN ({marks})", several
            ):
                found[digest] = (place, float("nan") if norm is None else norm)
        return found

    def matrix(self) -> NDArray[np.float32]:
        """(M, D), mapped from the disk; only rows that `find` names mean anything."""
        count, columns = self._shape()
        if not count:
            return np.empty((0, columns), dtype=np.float32)
        return np.memmap(self._matrix, dtype=np.float32, mode="r", shape=(count, columns))

    def put(self, features: Sequence[tuple[str, NDArray[np.float32]]]) -> None:
        """Add the rows (D,) of these digests; those that are there stay as they are."""
        if not features:
            return
        with self._writing(), self._database:  # commits, or takes all back
            self._database.execute("BEGIN IMMEDIATE")  # one writer at a time
            known = self.find(digest for digest, _ in features)
            new = {digest: row for digest, row in features if digest not in known}
            if not new:
                return
            rows = np.stack(list(new.values())).astype(np.float32)
            count, columns = self._shape()
            assert columns in (0, rows.shape[1]), (columns, rows.shape)
            with self._matrix.open("ab") as file:
                file.truncate(4 * count * rows.shape[1])  # what a killed process had not finished
                file.write(rows.tobytes())
                file.flush()
                os.fsync(file.fileno())
            norms = np.linalg.norm(rows.astype(np.float64), axis=1).tolist()
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)", zip(range(count, count + len(new)), new, norms, strict=True)
            )
            self._database.execute(f"PRAGMA user_version = {rows.shape[1]}")

    def close(self) -> None:
        self._database.close()

    def _shape(self) -> tuple[int, int]:
        """Rows that count, and D, which is kept where SQLite has room for one number."""
        (last,) = self._database.execute("SELECT max(place) FROM rows").fetchone()
        (columns,) = self._database.execute("PRAGMA user_version").fetchone()
        return 0 if last is None else last + 1, columns


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
    there = cache.find(files)
    missing = {digest: path for digest, path in files.items() if digest not in there}
    unreadable: dict[str, str] = {}
    fresh: list[tuple[str, NDArray[np.float32]]] = []
    results = answers(missing.values(), _WhenNeeded(engine), preprocess=preprocess, load=load)
    for done, (digest, answer) in enumerate(zip(missing, results, strict=True), start=len(there) + 1):
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
    try:
        wanted = [digests[record.id] for record in records]
        files = {digest: record.path for digest, record in zip(wanted, records, strict=True)}
        unreadable = complete(cache, files, engine=engine, preprocess=preprocess, load=load, progress=progress)
        for digest, record in zip(wanted, records, strict=True):
            if digest in unreadable:
                raise InputError(f"{record.id} can no longer be read: {unreadable[digest]}")
        places = cache.find(files)
        return np.asarray(cache.matrix()[[places[digest][0] for digest in wanted]])
    finally:
        cache.close()


class _WhenNeeded:
    """An engine that is opened for the first batch: where no file can be read, none is."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, Arrays]]:
        waiting = iter(batches)
        for first in waiting:
            yield from self._engine().stream(chain([first], waiting))
