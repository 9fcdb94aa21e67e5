"""Approximate neighbours: rows in the cells of a k-means partition, each compared with the rows of the nearest cells.

An inverted file whose lists are compared by matrix products: many rows look into the same cell, and their products with
its rows are one call. What a row has found so far rules out nearly all that comes after, so that little is ever sorted.
All is done in the order of the cells, in blocks of rows that do not depend on one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
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
    Ints,
    pair_products,
    search_exact,
    unit,
)

UInt64s = npt.NDArray[np.uint64]

_PART = 384
"""Rows that are multiplied with a cell at once: their products stay in the processor's cache."""

_REFINE_ROWS = 2048
"""Rows that a thread refines at once."""

_LOOKS = 12
"""A row looks into its 12 nearest cells, its own among them; then, as long as that is not enough, into 24, 48, …"""

_ERROR_OVER = 15
"""The error is that of the mean cosine of so many neighbours: the long-tail score's."""

_ROW_BITS, _KEY_BITS = np.uint64(32), np.uint64(48)
_ROW = np.uint64((1 << 32) - 1)
_NOTHING = np.uint64((1 << 48) - 1)


@dataclass(frozen=True)
class Found:
    """``ids`` and ``similarities`` (n, k), nearest first; ``looked``: the number of cells that each row looked into.

    ``recall``: the share of the sampled rows' true neighbours that were found. ``error``: the standard deviation of
    what the mean cosine of their first 15 falls short by.
    """

    ids: Int32s
    similarities: Float16s
    looked: int
    recall: float
    error: float


class Cells:
    """``rows`` (n, dim), no two of them equal, in the cells of a :class:`Partition` with these settings.

    The rows are held as float32. ``threads`` blocks of rows are worked on at once; their number changes nothing.
    """

    def __init__(self, rows: Floats, *, seed: int, threads: int | None, cells_per_root: float, train_per_cell: int):
        count, self._threads = len(rows), threads
        self._partition = Partition(
            rows,
            seed=seed,
            threads=threads,
            cells_per_root=cells_per_root,
            train_per_cell=train_per_cell,
            keep=_LOOKS,
        )
        # from here on rows are told by their place in the order of the cells
        self.order = np.argsort(self._partition.of, kind="stable").astype(np.int32)
        self.place = np.empty(count, np.int32)
        self.place[self.order] = np.arange(count, dtype=np.int32)
        self._near = self._partition.near[self.order]
        self._cell = self._near[:, 0]
        self._starts = np.searchsorted(self._cell, np.arange(len(self._partition.centres) + 1))
        self._rows = np.empty(rows.shape, np.float32)
        for low in range(0, count, BLOCK):
            self._rows[low : low + BLOCK] = unit(rows[self.order[low : low + BLOCK]])

    def neighbors(self, k: int, *, error: float, reach: int, sample: int, seed: int) -> Found:
        """Each row's k nearest others in its nearest cells, then who found it, then its neighbours' neighbours.

        The last two are a round of NN-descent (Dong et al. 2011): a row that found another is offered to it; then each
        row is compared with the first ``reach`` neighbours of its first ``reach``. What an inverted file misses is a
        row in a cell not looked into, and some neighbour of it mostly has it. All rows look into more and more cells,
        until the error on ``sample`` rows, drawn with ``seed``, is at most ``error`` after all steps. A row whose first
        cells hold fewer than k others is searched for everywhere.
        """
        count, reach = len(self._rows), min(reach, k)
        keys = np.empty((count, k), np.uint64)
        drawn = np.sort(np.random.default_rng([seed, 1]).permutation(count)[:sample])
        places = self.place[drawn]
        exact = search_exact(self._rows[places], self._rows, k, own=places.astype(np.int64))[1]
        looked, off = 0, np.inf
        for looks in self._looks():
            for low, high, found in in_blocks(
                count, BLOCK, self._threads, partial(self._look, keys=keys, begin=looked, end=looks)
            ):
                keys[low:high] = found
            looked, known = looks, self._returned(keys)
            near = (known & _ROW).astype(np.int32)
            off = _error(_similarity(self._refine(places, known, near, reach)), exact)
            if off <= error:
                break
        ids, similarities = np.empty((count, k), np.int32), np.empty((count, k), np.float16)
        for low, high, found in in_blocks(
            count, _REFINE_ROWS, self._threads, lambda low, high: self._refine(np.arange(low, high), known, near, reach)
        ):
            rows = self.order[low:high]
            ids[rows], similarities[rows] = (found & _ROW).astype(np.int32), _similarity(found)
        # one rounding below: the products of other shapes differ in last bits
        least = np.nextafter(exact[:, -1:], np.float16(-2))
        return Found(ids, similarities, looked, float((similarities[drawn] >= least).mean()), off)

    def _looks(self) -> Iterator[int]:
        """How many cells to look into: ever more, and at last all."""
        cells, looks = len(self._partition.centres), _LOOKS
        while looks < cells:
            yield looks
            looks *= 2
        yield cells

    def _look(self, start: int, stop: int, *, keys: UInt64s, begin: int, end: int) -> UInt64s:
        """(rows, k) Keys of the rows at these places, after their nearest cells from ``begin`` to ``end``."""
        cells = self._near[start:stop]
        if end > cells.shape[1]:
            cells = self._partition.closest(self._rows[start:stop], self._cell[start:stop], end)
        if begin:
            return self._look_into(start, cells[:, begin:end], keys[start:stop])
        best = self._look_into(start, cells[:, 1:end], self._own(start, stop, keys.shape[1]))
        short = np.flatnonzero(best[:, -1] == _NOTHING)
        if len(short):
            ids, similarities = search_exact(self._rows[start + short], self._rows, best.shape[1], own=start + short)
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

    def _returned(self, keys: UInt64s) -> UInt64s:
        """Everybody's ``keys`` after each row has been offered to those that it found and that did not find it."""
        parts = in_blocks(
            len(keys), _REFINE_ROWS, self._threads, lambda low, high: self._unrequited(low, keys[low:high], keys)
        )
        to, offered = (np.concatenate(side) for side in zip(*(part for _, _, part in parts), strict=True))
        touched, row = np.unique(to, return_inverse=True)
        out = keys.copy()
        for low in range(0, len(touched), BLOCK):
            here = (row >= low) & (row < low + BLOCK)
            found = _Found(len(touched[low : low + BLOCK]), keys.shape[1], keys[touched[low : low + BLOCK]])
            found.put_keys(row[here] - low, offered[here])
            out[touched[low : low + BLOCK]] = found.best()
        return out

    def _unrequited(self, start: int, own: UInt64s, keys: UInt64s) -> tuple[Int32s, UInt64s]:
        """Of the rows from this place on: places that they found, nearer than all found there, and the keys to add."""
        to = self.place[(own & _ROW).astype(np.int32)]
        row, column = np.nonzero(own >> _ROW_BITS < keys[:, -1][to] >> _ROW_BITS)
        to, here = to[row, column], self.order[start + row]
        fresh = ((keys[to] & _ROW).astype(np.int32) != here[:, None]).all(axis=1)
        row, column, to, here = row[fresh], column[fresh], to[fresh], here[fresh]
        return to, (own[row, column] & ~_ROW) | here.astype(np.uint64)

    def _refine(self, places: Ints, keys: UInt64s, near: Int32s, reach: int) -> UInt64s:
        """The ``keys`` of the rows at these places, with the neighbours of neighbours.

        ``keys`` and ``near`` (n, k) are everybody's; ``near``, the rows in the lists, by place.
        """
        own, best, rows = near[places], keys[places], self._rows[places]
        offered = near[self.place[own[:, :reach]]][:, :, :reach].reshape(len(best), -1)
        # a row's number, doubled, and 1 more where it is on offer: what is known comes before its like
        known = np.concatenate([own, self.order[places, None]], axis=1).astype(np.uint32) * np.uint32(2)
        both = np.sort(np.concatenate([known, offered.astype(np.uint32) * np.uint32(2) + np.uint32(1)], axis=1), axis=1)
        fresh = (both & 1).astype(np.bool_)
        fresh[:, 1:] &= both[:, 1:] >> 1 != both[:, :-1] >> 1
        row, column = np.nonzero(fresh)
        other = (both[row, column] >> 1).astype(np.int32)
        values = pair_products(rows, row, self._rows, self.place[other])
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
        self.put_keys(rows, _keys(ids, values.astype(np.float16)))

    def put_keys(self, rows: Int64s, keys: UInt64s) -> None:
        self._keys.append(keys | (rows.astype(np.uint64) << _KEY_BITS))

    def best(self) -> UInt64s:
        """(rows, k) Each row's first k keys."""
        keys = np.sort(np.concatenate(self._keys))
        begins = np.searchsorted(keys, np.arange(self.rows, dtype=np.uint64) << _KEY_BITS)
        best: UInt64s = keys[begins[:, None] + np.arange(self.k)] & _NOTHING
        return best


def _error(found: Float16s, exact: Float16s) -> float:
    """The standard deviation of what the mean of each row's first ``_ERROR_OVER`` falls short by."""
    few = slice(0, _ERROR_OVER)
    return float((exact[:, few].mean(axis=1, dtype=np.float64) - found[:, few].mean(axis=1, dtype=np.float64)).std())


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
