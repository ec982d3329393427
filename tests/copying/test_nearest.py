"""Exact nearest neighbours: blocks and rounding change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mia_hub.copying import nearest as module
from mia_hub.copying.nearest import nearest


def blocks(vectors, size):
    return [vectors[start : start + size] for start in range(0, len(vectors), size)]


def brute(queries, vectors, k):
    distances = np.sqrt(np.square(queries[:, None].astype(np.float64) - vectors).sum(2))
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, 1), rows


@pytest.mark.parametrize(
    ("width", "scale", "offset"),
    [(3, 1, 0), (60, 1, 0), (60, 1e-3, 1000), (1500, 1, 0), (8, 1e-25, 0)],
    ids=["few columns", "plain", "cancels in float32", "several products", "below float32's products"],
)
def test_blocks_of_any_size_give_what_brute_force_gives(width, scale, offset, monkeypatch):
    rng = np.random.default_rng(0)
    queries, vectors = (rng.random((n, width)).astype(np.float32) * np.float32(scale) + np.float32(offset) for n in (23, 150))
    vectors[[7, 90]], vectors[61] = queries[3], vectors[60]  # an exact copy, twice, and a tie
    distances, rows = brute(queries, vectors, 9)
    for size, at_once in ((1, 2**23), (7, 2**23), (64, 1), (1000, 2**23)):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        result = nearest(blocks(queries, size), blocks(vectors, size), 9)
        np.testing.assert_array_equal(result.rows, rows)
        np.testing.assert_array_equal(result.distances, distances)
    assert result.distances[3, :2].tolist() == [0, 0] and result.rows[3, :2].tolist() == [7, 90]


def test_a_query_among_the_vectors_is_left_out():
    vectors = np.array([[0.0], [1.0], [1.0], [1.0], [5.0]], np.float32)
    others = nearest([vectors], [vectors], 2).without_self(np.arange(5))
    np.testing.assert_array_equal(others.distances[:, 0], [1, 0, 0, 0, 4])
    assert all(row not in others.rows[row] for row in range(5))
