"""Nearest rows by cosine: exact by blocked matrix products (numpy), approximate by an inverted file (faiss).

Everywhere, neighbours are ordered by similarity rounded to float16, larger first, then by row number, smaller first.
Exact search uses the matrix product, whose last bits depend on shapes and threads, only to choose candidates; their
similarities are computed pair by pair in one fixed order, so that a graph does not depend on how it came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import MissingExtraError

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

_IVF_BLOCK = 1 << 15
"""Rows that go through the approximate index at once: 48 MB of float32 at 384 dimensions."""

_PAIRS = 1 << 12
"""Pairs whose rows are gathered at once: 6 MB a side at 384 dimensions."""

_REFINE_ROWS = 2048
"""Rows that are refined at once."""

_NEVER = np.float32(-2.0)
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
            table[np.arange(stop - start), own[start:stop]] = _NEVER
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
    table = np.full((height, folded), _NEVER, np.float32)
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


class InvertedFile:
    """An approximate index: rows in the cells of a k-means partition, of which a search looks into the nearest few.

    ``rows`` is (n, dim); it is read in blocks, so it may be a memory map, and kept as float16. ``tune`` sets how many
    cells a search looks into so that the recall on a sample reaches a target.
    """

    def __init__(self, rows: Floats, *, seed: int, threads: int | None, cells_per_root: float, train_per_cell: int):
        """``cells_per_root`` × √n cells, trained on ``train_per_cell`` rows a cell drawn with ``seed``."""
        self.rows, self._threads = rows, threads
        faiss = _faiss()
        count, dim = rows.shape
        cells = max(1, int(cells_per_root * count**0.5))
        drawn = np.random.default_rng(seed).permutation(count)[: train_per_cell * cells]
        with _threads_set(faiss, threads):
            self._quantizer = faiss.IndexFlatIP(dim)
            self._index = faiss.IndexIVFScalarQuantizer(
                self._quantizer, dim, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
            )
            self._index.by_residual = False
            self._index.cp.seed, self._index.cp.niter = seed % (1 << 31), 8
            self._index.cp.min_points_per_centroid = 1
            self._index.cp.max_points_per_centroid = train_per_cell
            self._index.train(unit(rows[np.sort(drawn)]))
            for start in range(0, count, _IVF_BLOCK):
                self._index.add(unit(rows[start : start + _IVF_BLOCK]))
        self.probes = 1

    def tune(self, k: int, *, target: float, tolerance: float, sample: int, seed: int) -> tuple[Int64s, Float16s]:
        """Set ``probes`` to the least power of two (times 1 or 1.5) that finds the share ``target`` of the k nearest.

        That is measured against exact search on ``sample`` rows drawn with ``seed``, where a row within ``tolerance``
        of the exact k-th counts as found. Returns those rows and their exact k-th similarities.
        """
        count = len(self.rows)
        drawn = np.sort(np.random.default_rng([seed, 1]).permutation(count)[: min(sample, count)])
        queries = unit(self.rows[drawn])
        least = self._kth(queries, k + 1)[:, None]
        for probes in _ladder(self._index.nlist):
            self.probes = probes
            found = self._search(queries, k + 1)[1].astype(np.float16)
            if (found >= least - np.float16(tolerance)).mean() >= target:
                break
        return drawn, least[:, 0]

    def neighbors(self, k: int) -> tuple[Int32s, Float16s]:
        """Each row's k nearest other rows (k < n). A row whose cells hold too few is searched for in all of them."""
        count = len(self.rows)
        ids = np.empty((count, k), np.int32)
        similarities = np.empty((count, k), np.float16)
        for start in range(0, count, _IVF_BLOCK):
            stop = min(start + _IVF_BLOCK, count)
            queries = unit(self.rows[start:stop])
            found, values = self._search(queries, k + 1 + _SPARE)
            own = np.arange(start, stop)[:, None]
            values[found == own] = _NEVER
            short = np.flatnonzero((values > _NEVER).sum(axis=1) < k)
            ids[start:stop], similarities[start:stop] = order(found.astype(np.int32), values.astype(np.float16), k)
            if len(short):
                redone = search_exact(queries[short], unit(self.rows), k, own=start + short)
                ids[start + short], similarities[start + short] = redone
        return ids, similarities

    def _search(self, queries: Float32s, k: int) -> tuple[Int64s, Float32s]:
        with _threads_set(_faiss(), self._threads):
            self._index.nprobe = self.probes
            values, found = self._index.search(queries, min(k, len(self.rows)))
        values[found < 0] = _NEVER  # fewer rows in the cells looked into than were asked for
        return found, values

    def _kth(self, queries: Float32s, k: int) -> Float16s:
        """The k-th largest similarity of each query over all rows, read in blocks."""
        best = np.full((len(queries), 0), _NEVER, np.float32)
        for start in range(0, len(self.rows), _IVF_BLOCK):
            table = queries @ unit(self.rows[start : start + _IVF_BLOCK]).T
            best = np.concatenate([best, table], axis=1)
            if best.shape[1] > k:
                best = -np.partition(-best, k - 1, axis=1)[:, :k]
        # one rounding below: the index computes with float16 rows
        kth: Float16s = np.nextafter(best.min(axis=1).astype(np.float16), np.float16(-2))
        return kth


def refine(rows: Floats, ids: Int32s, similarities: Float16s, *, reach: int) -> tuple[Int32s, Float16s]:
    """The lists of a graph, improved by the neighbours of neighbours (one round of NN-descent, Dong et al. 2011).

    Each row is compared with the first ``reach`` neighbours of its first ``reach`` that are not in its own list. What
    an inverted file misses is a row in a cell not looked into, and some neighbour of it mostly has it.
    """
    count, k = ids.shape
    reach = min(reach, k)
    better_ids, better_similarities = np.empty_like(ids), np.empty_like(similarities)
    for start in range(0, count, _REFINE_ROWS):
        stop = min(start + _REFINE_ROWS, count)
        own, here = ids[start:stop], np.arange(start, stop, dtype=np.int32)
        offered = ids[own[:, :reach]][:, :, :reach].reshape(stop - start, -1)
        known = np.concatenate([own, here[:, None], offered], axis=1)
        by = np.argsort(known, axis=1, kind="stable")
        ordered = np.take_along_axis(known, by, axis=1)
        fresh = by > k
        fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        row, column = np.nonzero(fresh)
        other, queries = ordered[row, column], unit(rows[start:stop])
        values = np.empty(len(row), np.float32)
        for low in range(0, len(row), _PAIRS):
            part = slice(low, low + _PAIRS)
            here = np.arange(len(other[part]))
            values[part] = pair_products(queries, row[part], unit(rows[other[part]]), here)
        nearer = values > similarities[start:stop, -1].astype(np.float32)[row]
        row, other, values = row[nearer], other[nearer], values[nearer]
        counts = np.bincount(row, minlength=stop - start)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        new_ids = np.full((stop - start, int(counts.max())), -1, np.int32)
        new_values = np.full(new_ids.shape, _NEVER, np.float16)
        new_ids[row, place], new_values[row, place] = other, values
        joined = np.concatenate([own, new_ids], axis=1), np.concatenate([similarities[start:stop], new_values], axis=1)
        better_ids[start:stop], better_similarities[start:stop] = order(*joined, k)
    return better_ids, better_similarities


def _ladder(top: int) -> Iterator[int]:
    probes = 2
    while probes < top:
        yield probes
        if probes * 3 // 2 < top:
            yield probes * 3 // 2
        probes *= 2
    yield top


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("a neighbour graph of this size", "neighbors", "faiss-cpu") from error
    return faiss


@contextmanager
def _threads_set(faiss: Any, threads: int | None) -> Iterator[None]:
    """``threads`` for faiss inside the block, the process's own number again after it; None leaves it alone."""
    before = faiss.omp_get_max_threads()
    if threads is not None:
        faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
