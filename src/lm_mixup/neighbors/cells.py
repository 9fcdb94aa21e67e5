"""Approximate neighbours: rows in the cells of a k-means partition, each compared with the rows of the nearest cells.

An inverted file whose lists are compared by matrix products: many rows look into the same cell, and their products with
its rows are one call. What a row has found so far rules out nearly all that comes after, so that little is ever sorted.
All is done in the order of the cells, in blocks of rows that do not depend on one another.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors.partition import BLOCK, Partition, in_blocks
from lm_mixup.neighbors.search import (
    NEVER,
    Float16s,
    Float32s,
    Floats,
    Int32s,
    Int64s,
    pair_products,
    search_exact,
    unit,
)

UInt64s = npt.NDArray[np.uint64]

_PART = 384
"""Rows that are multiplied with a cell at once: their products stay in the processor's cache."""

_REFINE_ROWS = 2048
"""Rows that a thread refines at once."""

_STEP = 4
"""After its own cell a row looks into 4 cells, then 16, then 64; what was found is sorted in between."""

_ROW_BITS, _KEY_BITS = np.uint64(32), np.uint64(48)
_ROW = np.uint64((1 << 32) - 1)
_NOTHING = np.uint64((1 << 48) - 1)


class Cells:
    """``rows`` (n, dim), no two of them equal, in the cells of a :class:`Partition` with these settings.

    The rows are held as float32. ``threads`` blocks of rows are worked on at once; their number changes nothing.
    """

    def __init__(self, rows: Floats, *, seed: int, threads: int | None, cells_per_root: float, train_per_cell: int):
        count, self._threads = len(rows), threads
        self._partition = Partition(
            rows, seed=seed, threads=threads, cells_per_root=cells_per_root, train_per_cell=train_per_cell
        )
        # from here on rows are told by their place in the order of the cells
        self.order = np.argsort(self._partition.of, kind="stable").astype(np.int32)
        self.place = np.empty(count, np.int32)
        self.place[self.order] = np.arange(count, dtype=np.int32)
        self._cell = self._partition.of[self.order]
        self._starts = np.searchsorted(self._cell, np.arange(len(self._partition.centres) + 1))
        self._rows = np.empty(rows.shape, np.float32)
        for low in range(0, count, BLOCK):
            self._rows[low : low + BLOCK] = unit(rows[self.order[low : low + BLOCK]])

    def tune(self, k: int, *, target: float, tolerance: float, sample: int, seed: int) -> tuple[int, Int64s, Float16s]:
        """How many cells to look into so that the share ``target`` of the k nearest is found, in ``sample`` rows' mean.

        A row within ``tolerance`` of the exact k-th similarity counts as found. Also returns the sampled rows (their
        numbers) and their exact k-th similarities.
        """
        count, cells = len(self._rows), len(self._partition.centres)
        drawn = np.sort(np.random.default_rng([seed, 1]).permutation(count)[: min(sample, count)])
        places = self.place[drawn]
        queries = self._rows[places]
        # one rounding below: the products of other shapes differ in last bits
        exact = search_exact(queries, self._rows, k, own=places.astype(np.int64))[1][:, -1]
        least = np.nextafter(exact, np.float16(-2))
        rank = np.empty((len(drawn), cells), np.int64)
        closest = self._partition.closest(queries, self._cell[places], cells)
        np.put_along_axis(rank, closest.astype(np.int64), np.arange(cells)[None], axis=1)
        found = np.zeros((len(drawn), cells), np.int64)
        for low in range(0, count, BLOCK):
            table = queries @ self._rows[low : low + BLOCK].T
            row, column = np.nonzero(table > (least.astype(np.float32) - tolerance)[:, None])
            other = column + low
            row, other = row[places[row] != other], other[places[row] != other]
            np.add.at(found, (row, rank[row, self._cell[other]]), 1)
        shares = np.minimum(found.cumsum(axis=1), k).mean(axis=0) / k
        enough = np.flatnonzero(shares >= target)
        return int(enough[0]) + 1 if len(enough) else cells, drawn, least

    def neighbors(self, k: int, *, probes: int, reach: int) -> tuple[Int32s, Float16s]:
        """Each row's k nearest others in its ``probes`` nearest cells, then among its neighbours' neighbours.

        That second step is one round of NN-descent (Dong et al. 2011): each row is compared with the first ``reach``
        neighbours of its first ``reach``. What an inverted file misses is a row in a cell not looked into, and some
        neighbour of it mostly has it. A row whose cells hold fewer than k others is searched for everywhere.
        """
        count = len(self._rows)
        keys = np.empty((count, k), np.uint64)
        for low, high, found in in_blocks(
            count, BLOCK, self._threads, lambda low, high: self._search(low, high, k, probes)
        ):
            keys[low:high] = found
        ids = np.empty((count, k), np.int32)
        similarities = np.empty((count, k), np.float16)
        near = (keys & _ROW).astype(np.int32)
        reach = min(reach, k)
        for low, high, found in in_blocks(
            count, _REFINE_ROWS, self._threads, lambda low, high: self._refine(low, keys[low:high], near, reach)
        ):
            rows = self.order[low:high]
            ids[rows], similarities[rows] = (found & _ROW).astype(np.int32), _similarity(found)
        return ids, similarities

    def _search(self, start: int, stop: int, k: int, probes: int) -> UInt64s:
        """(rows, k) Keys of the nearest others of the rows at these places."""
        probes = min(probes, len(self._partition.centres))
        cells = self._partition.closest(self._rows[start:stop], self._cell[start:stop], probes)
        best = self._own(start, stop, k)
        low, width = 1, _STEP
        while low < cells.shape[1]:
            best = self._look_into(start, cells[:, low : low + width], best)
            low, width = low + width, width * _STEP
        short = np.flatnonzero(best[:, -1] == _NOTHING)
        if len(short):
            ids, similarities = search_exact(self._rows[start + short], self._rows, k, own=start + short)
            best[short] = np.sort(_keys(self.order[ids].ravel(), similarities.ravel()).reshape(ids.shape), axis=1)
        return best

    def _own(self, start: int, stop: int, k: int) -> UInt64s:
        """Keys of the nearest in the row's own cell."""
        found = _Found(stop - start, k)
        for cell in range(self._cell[start], int(self._cell[stop - 1]) + 1):
            low, high = self._starts[cell], self._starts[cell + 1]
            for first in range(max(low, start), min(high, stop), _PART):
                last = min(first + _PART, high, stop)
                table = self._rows[first:last] @ self._rows[low:high].T
                table[np.arange(last - first), np.arange(first, last) - low] = NEVER
                least = np.full(last - first, np.nextafter(NEVER, np.float32(0)))
                if high - low > k:
                    kth = np.partition(table, high - low - k, axis=1)[:, high - low - k]
                    least = _just_below(kth.astype(np.float16))
                found.add(np.arange(first, last) - start, self.order[low:high], table, least)
        return found.best()

    def _look_into(self, start: int, cells: npt.NDArray[np.uint16], best: UInt64s) -> UInt64s:
        """``best`` after these cells (rows, some), which are not its own, have been looked into."""
        queries = self._rows[start : start + len(cells)]
        least = np.where(best[:, -1] == _NOTHING, NEVER, _just_below(_similarity(best[:, -1])))
        found = _Found(len(cells), best.shape[1], best)
        by = np.argsort(cells, axis=None, kind="stable")
        row, cell = by // cells.shape[1], cells.ravel()[by]
        edges = np.flatnonzero(np.diff(cell, prepend=cell[:1] + 1, append=cell[-1:] + 1))
        for first, last in pairwise(edges.tolist()):
            low, high = self._starts[cell[first]], self._starts[cell[first] + 1]
            for begin in range(first, last, _PART):
                rows = row[begin : min(begin + _PART, last)]
                found.add(rows, self.order[low:high], queries[rows] @ self._rows[low:high].T, least[rows])
        return found.best()

    def _refine(self, start: int, best: UInt64s, near: Int32s, reach: int) -> UInt64s:
        """``best`` with the neighbours of neighbours. ``near`` (n, k): the rows in everybody's lists, by place."""
        own = near[start : start + len(best)]
        offered = near[self.place[own[:, :reach]]][:, :, :reach].reshape(len(best), -1)
        here = self.order[start : start + len(best), None]
        # a row's number, doubled, and 1 more where it is on offer: what is known comes before its like
        known = np.concatenate([own, here], axis=1).astype(np.uint32) * np.uint32(2)
        both = np.sort(np.concatenate([known, offered.astype(np.uint32) * np.uint32(2) + np.uint32(1)], axis=1), axis=1)
        fresh = (both & 1).astype(np.bool_)
        fresh[:, 1:] &= both[:, 1:] >> 1 != both[:, :-1] >> 1
        row, column = np.nonzero(fresh)
        other = (both[row, column] >> 1).astype(np.int32)
        values = pair_products(self._rows[start : start + len(best)], row, self._rows, self.place[other])
        found = _Found(len(best), best.shape[1], best)
        nearer = values >= _just_below(_similarity(best[:, -1]))[row]
        found.put(row[nearer], other[nearer], values[nearer])
        return found.best()


class _Found:
    """What has been found for some rows. A key is a neighbour: sorted, they come nearest first, and then by row."""

    def __init__(self, rows: int, k: int, before: UInt64s | None = None):
        self.rows, self.k = rows, k
        start = np.full((rows, k), _NOTHING) if before is None else before
        self._keys = [(start | (np.arange(rows, dtype=np.uint64) << _KEY_BITS)[:, None]).ravel()]

    def add(self, rows: Int64s, ids: Int32s, table: Float32s, least: Float32s) -> None:
        """Those of ``table``, of ``rows`` (of them) with ``ids`` (of the pool), that are above each row's ``least``."""
        hits = np.flatnonzero(table > least[:, None])
        row, column = np.divmod(hits, table.shape[1])
        self.put(rows[row], ids[column], table.ravel()[hits])

    def put(self, rows: Int64s, ids: Int32s, values: Float32s) -> None:
        self._keys.append(_keys(ids, values.astype(np.float16)) | (rows.astype(np.uint64) << _KEY_BITS))

    def best(self) -> UInt64s:
        """(rows, k) Each row's first k keys."""
        keys = np.sort(np.concatenate(self._keys))
        begins = np.searchsorted(keys, np.arange(self.rows, dtype=np.uint64) << _KEY_BITS)
        best: UInt64s = keys[begins[:, None] + np.arange(self.k)] & _NOTHING
        return best


def _keys(ids: Int32s, similarities: Float16s) -> UInt64s:
    """Similarity, falling, in bits 32–47 and the row in those below."""
    bits = np.minimum(similarities, np.float16(1)).view(np.uint16)
    falling = np.where(bits < 0x8000, np.uint16(0x7FFF) - bits, bits)
    return (falling.astype(np.uint64) << _ROW_BITS) | ids.astype(np.uint64)


def _similarity(keys: UInt64s) -> Float16s:
    falling = (keys >> _ROW_BITS).astype(np.uint16)
    return np.where(falling < 0x8000, np.uint16(0x7FFF) - falling, falling).view(np.float16)


def _just_below(similarities: Float16s) -> Float32s:
    """Whatever rounds to at least this much is above it."""
    return np.nextafter(similarities, np.float16(-2)).astype(np.float32)
