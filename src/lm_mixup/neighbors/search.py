"""Nearest rows by cosine, exactly: blocked matrix products in numpy.

Everywhere, neighbours are ordered by similarity rounded to float16, larger first, then by row number, smaller first.
Exact search uses the matrix product, whose last bits depend on shapes and threads, only to choose candidates; their
similarities are computed pair by pair in one fixed order, so that a graph does not depend on how it came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Float16s = npt.NDArray[np.float16]
Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Ints = npt.NDArray[np.integer[Any]]

_BLOCK_ELEMENTS = 1 << 25
"""Similarities held at once by exact search: 128 MB of float32."""

_FOLD = 64
"""Exact search looks for the largest of a row among the maxima of every 64 columns first: see :func:`_top`."""

_SPARE = 8
"""More candidates than asked for are ordered by (rounded similarity, row), so that ties at the cut fall by row."""

_PAIRS = 1 << 12
"""Pairs whose rows are gathered at once: 6 MB a side at 384 dimensions."""

NEVER = np.float32(-2.0)
"""Below every cosine."""


def unit(rows: Floats) -> Float32s:
    """The rows as contiguous float32 of length 1 (float16 rows are up to 2e-4 off); rows of zeros stay zeros."""
    out = np.array(rows, dtype=np.float32, order="C")
    norms = np.sqrt(np.einsum("ij,ij->i", out, out))
    out /= np.where(norms > 0, norms, 1)[:, None]
    return out


def search(queries: Floats, base: Floats, k: int) -> tuple[Int32s, Float16s]:
    """The ``min(k, len(base))`` rows of ``base`` nearest to each query, exactly: ids and cosines, nearest first.

    A query that is itself a row of ``base`` finds itself. Vectors are (n, dim), float16 or float32.
    """
    return search_exact(unit(queries), unit(base), min(k, len(base)))


def search_exact(queries: Float32s, base: Float32s, k: int, own: Int64s | None = None) -> tuple[Int32s, Float16s]:
    """The k nearest rows of ``base`` to each query, both of unit rows; ``k`` ≤ ``len(base)``, less one with ``own``.

    ``own[i]`` is the row of ``base`` that query i itself is, and is left out.
    """
    ids = np.empty((len(queries), k), np.int32)
    similarities = np.empty((len(queries), k), np.float16)
    if k == 0:
        return ids, similarities
    for start, stop, table in similarity_blocks(queries, base):
        if own is not None:
            table[np.arange(stop - start), own[start:stop]] = NEVER
        near = _top(table, len(base), min(k + _SPARE, len(base) - (own is not None)))
        row = np.repeat(np.arange(start, stop), near.shape[1])
        cosines = pair_products(queries, row, base, near.ravel()).reshape(near.shape)
        ids[start:stop], similarities[start:stop] = order(near, cosines.astype(np.float16), k)
    return ids, similarities


def pair_products(left: Float32s, a: Ints, right: Float32s, b: Ints) -> Float32s:
    """The products of ``left[a]`` with ``right[b]``: a pair's is the same bits whatever the other pairs are."""
    out = np.empty(len(a), np.float32)
    for start in range(0, len(a), _PAIRS):
        part = slice(start, start + _PAIRS)
        out[part] = np.einsum("ij,ij->i", left[a[part]], right[b[part]])
    return out


def similarity_blocks(queries: Float32s, base: Float32s) -> Iterator[tuple[int, int, Float32s]]:
    """``(start, stop, table)``: cosines of ``queries[start:stop]`` with every row of ``base``.

    The table is overwritten by the next block. It is wider than ``base`` by up to 63 columns that no row can win.
    """
    folded = -(-len(base) // _FOLD) * _FOLD
    # a block of rows narrow enough for the cache makes the product itself faster too
    height = int(max(1, min(512, _BLOCK_ELEMENTS // max(folded, 1), len(queries))))
    table = np.full((height, folded), NEVER, np.float32)
    for start in range(0, len(queries), height):
        stop = min(start + height, len(queries))
        np.matmul(queries[start:stop], base.T, out=table[: stop - start, : len(base)])
        yield start, stop, table[: stop - start]


def _top(table: Float32s, columns: int, want: int) -> Int32s:
    """(rows, want) The columns of each row's largest values, in no order; ``want`` ≤ ``columns``.

    Partitioning every row would cost more than the product. A row's m largest all lie in the m groups of columns with
    the largest maxima, so the maxima are partitioned first (one in 64 of the entries), and then only those groups.
    """
    rows, folded = table.shape
    width = folded // _FOLD
    if want < width:
        grouped = table.reshape(rows, _FOLD, width)
        groups = np.argpartition(grouped.max(axis=1), width - want, axis=1)[:, width - want :]
        values = grouped[np.arange(rows)[:, None], :, groups].reshape(rows, want * _FOLD)
        inside = np.arange(_FOLD) * width
        ids = (groups[:, :, None] + inside).reshape(rows, want * _FOLD)
    else:
        values, ids = table, np.broadcast_to(np.arange(folded), table.shape)
    if want < values.shape[1]:
        best = np.argpartition(values, values.shape[1] - want, axis=1)[:, values.shape[1] - want :]
        values, ids = np.take_along_axis(values, best, axis=1), np.take_along_axis(ids, best, axis=1)
    chosen: Int32s = ids.astype(np.int32)
    return chosen


def order(ids: Int32s, similarities: Float16s, k: int) -> tuple[Int32s, Float16s]:
    """The first k of each row in the order of this module: similarity falling, then id rising."""
    similarities = np.minimum(similarities, np.float16(1))
    ranks = np.lexsort((ids, -similarities), axis=1)[:, :k]
    return np.take_along_axis(ids, ranks, axis=1), np.take_along_axis(similarities, ranks, axis=1)
