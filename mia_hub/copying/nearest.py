"""Exact nearest neighbours of many vectors among many, block by block, in bounded memory.

Squared distances come from matrix products in float32. A bound on their rounding errors says which vectors can be among the nearest, and
the distances of these are computed again in float64 from explicit differences. So the result is exact and the same for all block sizes,
and a vector lies at distance 0 from its copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Values of differences in float64 that are held at once: 64 MiB.
AT_ONCE = 2**23
# Columns whose products are summed up in float32; these sums are added in float64, so that errors don't grow with the number of columns.
COLUMNS = 1024
# Bound on the rounding error of such a sum, relative to the product of the norms, in any order of summation (Higham 2002, section 3.1).
ROUNDING = COLUMNS * 2.0**-24 / (1 - COLUMNS * 2.0**-24)

Vectors = npt.NDArray[np.float32]
Squares = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k vectors nearest to each of N queries, the nearest first; of equal distances, the lower row first.

    Attributes:
        distances: float64 ``[N, k]``, Euclidean.
        rows: int64 ``[N, k]``: rows of the vectors.
    """

    distances: npt.NDArray[np.float64]
    rows: Rows

    def without_self(self, own: Rows) -> Neighbours:
        """Return the neighbours of queries that are among the vectors, without the queries themselves; k - 1 each.

        Args:
            own: ``[N]``: the row of each query.
        """
        others = self.rows != own[:, None]
        # A query that is not among its own nearest, since k others lie at the same place, gives up the last of these.
        others[others.all(axis=1), -1] = False
        shape = (len(self.rows), self.rows.shape[1] - 1)
        return Neighbours(self.distances[others].reshape(shape), self.rows[others].reshape(shape))


def nearest(queries: Iterable[Vectors], vectors: Iterable[Vectors], k: int) -> Neighbours:
    """Find the k vectors nearest to each query.

    Args:
        queries: blocks ``[n, F]``, read once.
        vectors: blocks ``[m, F]``, read once for each block of queries; at least k vectors in all.
        k: at least 1.
    """
    parts = [_of_block(block, vectors, k) for block in queries]
    parts.append(Neighbours(np.empty((0, k)), np.empty((0, k), np.int64)))
    return Neighbours(np.concatenate([part.distances for part in parts]), np.concatenate([part.rows for part in parts]))


def _of_block(queries: Vectors, vectors: Iterable[Vectors], k: int) -> Neighbours:
    """Find the neighbours of one block of queries."""
    squares = np.full((len(queries), k), np.inf)
    rows = np.full((len(queries), k), np.iinfo(np.int64).max)
    norms, first = _squared_norms(queries), 0
    for block in vectors:
        near, columns = _candidates(queries, norms, block, squares)
        exact = np.concatenate(list(_exact(queries, block, near, columns)))
        squares, rows = _merged(squares, rows, near, exact, columns + first)
        first += len(block)
    return Neighbours(np.sqrt(squares), rows)


def _candidates(queries: Vectors, norms: Squares, block: Vectors, known: Squares) -> tuple[Rows, Rows]:
    """Return the pairs of a query and a vector of a block that can be among the nearest: the rows of both.

    Args:
        queries: ``[n, F]``.
        norms: their squared norms, ``[n]``.
        block: ``[m, F]``.
        known: the k smallest squared distances so far, ``[n, k]``, increasing; infinite where there are fewer.
    """
    others, k = _squared_norms(block), known.shape[1]
    sums = norms[:, None] + others
    squares = sums - 2 * _products(queries, block)
    # The error of the products, with some room; that of the sums, which are float64; and that of products too small for float32.
    error = (2.1 * ROUNDING) * np.sqrt(norms)[:, None] * np.sqrt(others) + 1e-12 * sums + queries.shape[1] * 1e-37
    bound = known[:, -1]
    if len(block) >= k:
        bound = np.minimum(bound, np.partition(squares + error, k - 1, axis=1)[:, k - 1])
    near, columns = np.nonzero(squares - error <= bound[:, None])
    return near, columns


def _exact(queries: Vectors, block: Vectors, near: Rows, columns: Rows) -> Iterator[Squares]:
    """Yield the squared distances of pairs, in portions."""
    portion = max(1, AT_ONCE // max(1, queries.shape[1]))
    for start in range(0, max(1, len(near)), portion):
        pairs = slice(start, start + portion)
        yield np.square(queries[near[pairs]].astype(np.float64) - block[columns[pairs]]).sum(axis=1)


def _merged(squares: Squares, rows: Rows, near: Rows, more: Squares, more_rows: Rows) -> tuple[Squares, Rows]:
    """Return the k smallest of the squared distances ``[n, k]`` so far and of more, each of the query in ``near``; and their rows."""
    count, k = squares.shape
    query = np.concatenate([np.repeat(np.arange(count), k), near])
    every, every_row = np.concatenate([squares.ravel(), more]), np.concatenate([rows.ravel(), more_rows])
    order = np.lexsort((every_row, every, query))
    # Each query has k or more entries, and is sorted by itself.
    starts = np.searchsorted(query[order], np.arange(count))
    first = order[starts[:, None] + np.arange(k)]
    return every[first], every_row[first]


def _squared_norms(vectors: Vectors) -> Squares:
    norms: Squares = np.einsum("nf,nf->n", vectors, vectors, dtype=np.float64)
    return norms


def _products(queries: Vectors, block: Vectors) -> Squares:
    total = np.zeros((len(queries), len(block)))
    for start in range(0, queries.shape[1], COLUMNS):
        columns = slice(start, start + COLUMNS)
        total += queries[:, columns] @ block[:, columns].T
    return total
