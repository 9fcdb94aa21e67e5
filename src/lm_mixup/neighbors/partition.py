"""A partition of rows into cells, each the rows nearest to one centre: k-means on the sphere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors.search import NEVER, Float32s, Floats, unit

UInt16s = npt.NDArray[np.uint16]
T = TypeVar("T")

BLOCK = 1 << 15
"""Rows that a thread works on at once: 48 MB at 384 dimensions."""

_WIDE = 1024
"""Rows that are compared with all centres at once."""

_ITERATIONS = 4
"""Of k-means. More move the centres, but not the neighbours found."""

_MOST_CELLS = 1 << 16


def in_blocks(
    count: int, size: int, threads: int | None, work: Callable[[int, int], T]
) -> Iterator[tuple[int, int, T]]:
    """``(start, stop, work(start, stop))`` for each block of so many, in order; ``threads`` are worked on at once.

    As many as there are processors by default; the threads of numpy's products come on top.
    """
    blocks = [(low, min(low + size, count)) for low in range(0, count, size)]
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for (low, high), done in zip(blocks, pool.map(lambda block: work(*block), blocks), strict=True):
            yield low, high, done


class Partition:
    """``of`` (n,) uint16: the cell of each of ``rows`` (n, dim), of ``cells_per_root`` × √n; ``centres`` (cells, dim).

    ``near`` (n, keep) uint16 are the cells nearest to each row, its own first; all of them where they are fewer. The
    centres are found on ``train_per_cell`` rows a cell, drawn with ``seed``, by Lloyd's k-means on the sphere; one
    that no row is nearest to stays where it is. ``threads`` as in :func:`in_blocks`: they change nothing.
    """

    def __init__(
        self,
        rows: Floats,
        *,
        seed: int,
        threads: int | None,
        cells_per_root: float,
        train_per_cell: int,
        keep: int = 1,
    ):
        count = len(rows)
        cells = max(1, min(count, _MOST_CELLS, int(cells_per_root * count**0.5)))
        drawn = np.random.default_rng(seed).permutation(count)[: max(1, train_per_cell) * cells]
        sample = unit(rows[drawn])
        self.centres: Float32s = sample[:cells].copy()
        for _ in range(_ITERATIONS):
            of = self._all(sample, threads, 1)[:, 0]
            by = np.argsort(of, kind="stable")
            present, begins = np.unique(of[by], return_index=True)
            self.centres[present] = unit(np.add.reduceat(sample[by], begins, axis=0))
        self.near = self._all(rows, threads, min(keep, cells))
        self.of = self.near[:, 0].copy()

    def _all(self, rows: Floats, threads: int | None, keep: int) -> UInt16s:
        out = np.empty((len(rows), keep), np.uint16)
        for low, high, cells in in_blocks(len(rows), BLOCK, threads, lambda a, b: self._nearest(rows[a:b], keep)):
            out[low:high] = cells
        return out

    def _nearest(self, rows: Floats, keep: int) -> UInt16s:
        """(rows, keep) The cells whose centres are nearest to each row."""
        out = np.empty((len(rows), keep), np.uint16)
        for low in range(0, len(rows), _WIDE):
            table = unit(rows[low : low + _WIDE]) @ self.centres.T
            out[low : low + _WIDE] = table.argmax(axis=1)[:, None] if keep == 1 else _smallest(-table, keep)
        return out

    def closest(self, rows: Float32s, own: UInt16s, count: int) -> UInt16s:
        """(rows, count) The cells nearest to each of these unit rows: its own, and then by their centres."""
        out = np.empty((len(rows), count), np.uint16)
        for low in range(0, len(rows), _WIDE):
            part = slice(low, min(low + _WIDE, len(rows)))
            table = -(rows[part] @ self.centres.T)
            table[np.arange(len(table)), own[part]] = NEVER
            out[part] = _smallest(table, count)
        return out


def _smallest(table: Float32s, count: int) -> npt.NDArray[np.int64]:
    """(rows, count) The columns of each row's smallest values, smallest first."""
    best = np.argpartition(table, count - 1, axis=1)[:, :count]
    by = np.argsort(np.take_along_axis(table, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, by, axis=1)
