"""What the frozen backbone says of each image, computed once per content and kept."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from handlens.data.record import Record
from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.preprocess import Preprocess
from handlens.runtimes.engine import Engine
from handlens.runtimes.names import FEATURES
from handlens.runtimes.stream import Load, answers, load_pixels

DECODED = "decoded whole"  # part of the key: images that were reduced by the decoder have other features


class FeatureCache:
    """Features by the image's content, one file per (backbone, preprocess, precision, augmentation).

    An image that is renamed, moved or copied is found again; one that is edited is not.
    SQLite keeps the file whole when a process is killed or two write at once.
    """

    def __init__(self, *key: str) -> None:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        path = cache_folder() / "features" / f"{name}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60)
        self._database.execute("CREATE TABLE IF NOT EXISTS features (digest TEXT PRIMARY KEY, row BLOB)")

    def get(self, digest: str) -> NDArray[np.float32] | None:
        found = self._database.execute("SELECT row FROM features WHERE digest = ?", (digest,)).fetchone()
        return None if found is None else np.frombuffer(found[0], dtype=np.float32)

    def put(self, rows: Sequence[tuple[str, NDArray[np.float32]]]) -> None:
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?)", [(digest, row.tobytes()) for digest, row in rows]
            )

    def close(self) -> None:
        self._database.close()


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
    cache = FeatureCache(backbone, json.dumps(preprocess.to_dict(), sort_keys=True), precision, augmented, DECODED)
    try:
        rows = {record.id: cache.get(digests[record.id]) for record in records}
        missing = [record for record in records if rows[record.id] is None]
        done = len(records) - len(missing)
        if missing:
            fresh: list[tuple[str, NDArray[np.float32]]] = []
            results = answers([record.path for record in missing], engine(), preprocess=preprocess, load=load)
            for record, answer in zip(missing, results, strict=True):
                if answer.arrays is None:
                    raise InputError(f"{record.id} can no longer be read: {answer.error}")
                rows[record.id] = answer.arrays[FEATURES]
                fresh.append((digests[record.id], answer.arrays[FEATURES]))
                if len(fresh) == 256:  # a kill costs at most this many
                    cache.put(fresh)
                    fresh = []
                done += 1
                if progress:
                    progress(done, len(records))
            cache.put(fresh)
        return np.stack([row for row in rows.values() if row is not None])
    finally:
        cache.close()
