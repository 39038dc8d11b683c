"""Nearest neighbors by cosine similarity, exact: every vector is compared, in blocks, so that memory stays bounded.

Vectors are rows of a matrix that may lie on disk (`numpy.memmap`) and hold more than is asked for. They need not be
normalized: the norm of each row is known. A vector of zeros is similar to nothing: 0, as scikit-learn has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPARSE = 3  # times as many rows lie between the first and the last: then they are copied together instead
ROWS = 8192  # so many at once: 42 MB of 1280 dimensions
SIDE = 2048  # rows of a block that is compared with another: 16 MB of similarities
ROUNDING = 1e-6  # of a similarity in float32: one that is less than this below a threshold counts


@dataclass(frozen=True)
class Vectors:
    """N vectors of D dimensions.

    Attributes:
        matrix: (M, D) float32.
        rows: (N,) int64, ascending, each once: which of its rows they are.
        norms: (N,) float32, their Euclidean lengths.
    """

    matrix: NDArray[np.float32]
    rows: NDArray[np.int64]
    norms: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def normalized(self, part: slice) -> NDArray[np.float32]:
        """A copy of some, each of length 1, or of zeros."""
        return self.matrix[self.rows[part]] * _inverse(self.norms[part])[:, None]


def cosine_similarities(query: NDArray[np.float32], vectors: Vectors) -> NDArray[np.float32]:
    """(N,) similarities, -1 to 1, of a query (D,) to each vector.

    Raises:
        ValueError: the query has another number of dimensions.
    """
    if query.shape != vectors.matrix.shape[1:]:
        raise ValueError(f"the query must have shape {vectors.matrix.shape[1:]}, got {query.shape}")
    unit = (query / (np.linalg.norm(query) or 1)).astype(np.float32)
    return np.clip(_products(unit, vectors) * _inverse(vectors.norms), -1, 1)


def similar_groups(
    vectors: Vectors, *, threshold: float, side: int = SIDE, progress: Callable[[int, int], None] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which vectors belong together: the connected components of all pairs whose similarity is at least a threshold.

    Two of a group may be less alike than the threshold, where others link them (single linkage).

    Args:
        side: vectors that are compared with as many others at once.
        progress: called with (blocks done, blocks in all).

    Returns:
        (N,) the number of each vector's group, which is the place of its first; (N,) its similarity to the nearest
        other vector, where that reaches the threshold, else -1.

    Raises:
        ValueError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    count = len(vectors)
    group = np.arange(count)
    nearest = np.full(count, -1, dtype=np.float32)
    starts = range(0, count, side)
    blocks, done = len(starts) * (len(starts) + 1) // 2, 0
    for top in starts:
        rows = slice(top, min(top + side, count))
        above = vectors.normalized(rows)
        for left in range(top, count, side):
            columns = slice(left, min(left + side, count))
            beside = above if left == top else vectors.normalized(columns)
            similarities = above @ beside.T
            if left == top:
                np.fill_diagonal(similarities, -1)
            alike = similarities >= threshold - ROUNDING
            if alike.any():
                similarities[~alike] = -1
                np.maximum(nearest[rows], similarities.max(axis=1), out=nearest[rows])
                np.maximum(nearest[columns], similarities.max(axis=0), out=nearest[columns])
                _join(group, alike, rows, columns)
            done += 1
            if progress is not None:
                progress(done, blocks)
    return group, np.minimum(nearest, 1)


def _products(query: NDArray[np.float32], vectors: Vectors) -> NDArray[np.float32]:
    """(N,) of the query with each vector. One product with all that lies between the first and the last is as fast as
    memory can be read; copying every second row together would take longer, and so do many small products, whose
    threads wait for each other on a busy machine."""
    rows = vectors.rows
    if len(rows) and rows[-1] - rows[0] < SPARSE * len(rows):
        return np.asarray((vectors.matrix[rows[0] : rows[-1] + 1] @ query)[rows - rows[0]])
    found = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), ROWS):
        np.matmul(vectors.matrix[rows[start : start + ROWS]], query, out=found[start : start + ROWS])
    return found


def _join(group: NDArray[np.int64], alike: NDArray[np.bool_], rows: slice, columns: slice) -> None:
    """Give all that a block says are alike one number, the lowest of theirs."""
    new = alike & (group[rows, None] != group[None, columns])
    for row in np.flatnonzero(new.any(axis=1)):
        place = rows.start + int(row)
        together = np.unique(np.append(group[columns][alike[row]], group[place]))
        if len(together) > 1:  # else a row before has joined them
            group[np.isin(group, together)] = together[0]


def _inverse(norms: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / norm, and 0 of vectors of zeros."""
    return np.divide(1, norms, out=np.zeros(len(norms), dtype=np.float32), where=norms > 0)
