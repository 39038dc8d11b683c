"""Exact neighbors against scikit-learn, groups against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from handlens.neighbors import Vectors, cosine_similarities, similar_groups


def vectors_of(matrix, rows=None):
    rows = np.arange(len(matrix)) if rows is None else np.asarray(rows, dtype=np.int64)
    return Vectors(matrix, rows, np.linalg.norm(matrix[rows].astype(np.float64), axis=1).astype(np.float32))


def random_matrix(count, *, columns=48, seed=0):
    """As features are: some are 0, none is negative, lengths differ."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((count, columns)) * rng.uniform(0.1, 9, (count, 1)), 0).astype(np.float32)


ALL = np.arange(300)


@pytest.mark.parametrize("rows", [ALL, ALL[10:200], ALL[::2], ALL[[3, 4, 5, 290]], ALL[::7]])
@pytest.mark.parametrize("block", [8192, 5])
def test_neighbors_are_scikit_learns(rows, block, monkeypatch):
    monkeypatch.setattr("handlens.neighbors.ROWS", block)
    matrix = random_matrix(300)
    query = random_matrix(1, seed=1)[0]
    found = cosine_similarities(query, vectors_of(matrix, rows))
    theirs = NearestNeighbors(n_neighbors=len(rows), metric="cosine").fit(matrix[rows])
    distances, order = theirs.kneighbors(query[None])
    assert (-found).argsort(kind="stable").tolist() == order[0].tolist()
    np.testing.assert_allclose(1 - found[order[0]], distances[0], atol=1e-6)


def test_a_vector_of_zeros_is_similar_to_nothing():
    matrix = random_matrix(20)
    matrix[4] = 0
    assert cosine_similarities(matrix[0], vectors_of(matrix))[4] == 0
    assert not cosine_similarities(matrix[4], vectors_of(matrix)).any()
    group, nearest = similar_groups(vectors_of(matrix), threshold=1e-3)
    assert (group == 4).sum() == 1 and nearest[4] == -1


def test_nothing_to_compare():
    none = vectors_of(random_matrix(3), [])
    assert cosine_similarities(np.ones(48, dtype=np.float32), none).shape == (0,)
    group, nearest = similar_groups(none, threshold=0.5)
    assert group.shape == nearest.shape == (0,)


@pytest.mark.parametrize("threshold", [0.3, 0.62, 0.66, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("side", [2048, 64, 7])
def test_groups_are_the_connected_components_of_pairs(threshold, side):
    matrix = random_matrix(200)
    matrix[150], matrix[199] = 3 * matrix[2], 0.5 * matrix[2]  # the same direction
    group, nearest = similar_groups(vectors_of(matrix), threshold=threshold, side=side)
    exact = cosine_similarity(matrix.astype(np.float64))
    np.fill_diagonal(exact, -1)
    assert np.abs(exact - threshold).min() > 1e-6 or threshold == 1  # else rounding would decide
    count, expected = connected_components(exact >= threshold - 1e-6)
    assert 1 <= count <= 198  # the three are one group at every threshold
    first = [int(np.flatnonzero(expected == label)[0]) for label in expected]
    assert group.tolist() == first
    reached = np.where(exact.max(axis=1) >= threshold - 1e-6, exact.max(axis=1), -1)
    np.testing.assert_allclose(nearest, reached, atol=1e-6)


def test_of_rows_that_are_not_all():
    matrix = random_matrix(40)
    matrix[30], matrix[7] = matrix[5], matrix[5]
    group, _ = similar_groups(vectors_of(matrix, [5, 6, 30]), threshold=1.0)
    assert group.tolist() == [0, 1, 0]


def test_progress_counts_blocks():
    seen = []
    similar_groups(vectors_of(random_matrix(30)), threshold=0.9, side=10, progress=lambda *step: seen.append(step))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_thresholds_out_of_range(threshold):
    with pytest.raises(ValueError, match=r"above 0 and at most 1, got"):
        similar_groups(vectors_of(random_matrix(3)), threshold=threshold)


def test_a_query_of_other_dimensions():
    with pytest.raises(ValueError, match=r"must have shape \(48,\), got \(47,\)"):
        cosine_similarities(np.ones(47, dtype=np.float32), vectors_of(random_matrix(3)))
