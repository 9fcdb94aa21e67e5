"""What selection rests on: how rare a row is, which rows are the same, which cover the others. METHOD § 1.7, 1.8."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.partition import Partition
from lm_mixup.neighbors.search import Float32s, Floats, Int64s, unit

Bools = npt.NDArray[np.bool_]

_ROUNDING = 1e-4
"""More than products of float32 unit rows are off; pairs this near to a threshold are computed anew."""

_GREEDY_ROWS, _GREEDY_COLUMNS = 1024, 4096
"""Rows that are compared with so many kept ones at once: a table of 16 MB."""

_CELL_ROWS = 2048
"""Rows that look into cells, and are compared with each other, at once."""

_PAIRS = 1 << 12
"""Pairs whose rows are gathered at once: 6 MB a side at 384 dimensions."""

_SAMPLE_ROWS, _SAMPLE_QUERIES = 8192, 256
"""Rows that the axes are found from, and how many of them are compared with the others: two million pairs."""

_DIMENSIONS = (16, 32, 64, 128, 256)
_PAIR_COST = 30_000
"""What gathering and computing one pair costs, in multiplications of a matrix product (measured: about a μs)."""


def long_tail(graph: Graph, *, k: int = 15) -> Float32s:
    """(n,) float32 in 0–2: the mean cosine distance to the k nearest rows; larger is rarer. METHOD § 1.7.

    k is at most ``graph.k``; a row without any neighbour (a pool of one) scores 1, as one unlike all others would.
    """
    near = graph.nearest(min(k, graph.k)).similarities
    if not near.shape[1]:
        return np.ones(graph.n, np.float32)
    out: Float32s = (1 - near.astype(np.float32)).mean(axis=1)
    return out


@dataclass(frozen=True)
class NearDuplicates:
    """``stands_for`` (n,): the row that is kept in each row's place, itself where it is kept.

    ``exact``: every pair was looked at, or ruled out. Otherwise ``recall`` is the share of the near pairs of a sample
    that lie in cells which were looked into; 1 where the sample has none, and where the search is exact.
    """

    stands_for: Int64s
    exact: bool = True
    recall: float = 1.0

    @property
    def kept(self) -> Bools:
        """(n,) Whether the row is kept."""
        kept: Bools = self.stands_for == np.arange(len(self.stands_for))
        return kept


def near_duplicates(
    vectors: Floats,
    *,
    threshold: float = 0.92,
    priority: npt.NDArray[Any] | None = None,
    reduce_from: int = 4096,
    exact_below: int = 100_000,
    recall_target: float = 0.9995,
    recall_sample: int = 1024,
    least_probes: int = 12,
    cells_per_root: float = 2.0,
    train_per_cell: int = 32,
    threads: int | None = None,
    seed: int = 0,
) -> NearDuplicates:
    """Go through the rows in order of ``priority`` and keep each that is nearer than ``threshold`` to none kept before.

    ``vectors`` (n, dim), float16 or float32 unit rows. ``priority`` (n,) ranks the rows, smallest first, equal ones by
    row number; without it the first row comes first. A row that is not kept is stood for by the first, in that order,
    of the kept rows whose cosine to it is at least ``threshold``. A row is compared with kept rows alone, so that any
    number of duplicates is no burden.

    Below ``exact_below`` rows the search is exact. From ``reduce_from`` rows on, pairs are ruled out in fewer
    dimensions: with each row split by an orthogonal basis into a (d of them) and the rest, of length r, ``a·a' + r r'``
    is never below the cosine (Cauchy and Schwarz), and is a product of d + 1 numbers instead of dim. Only pairs that it
    leaves are computed in full. d is chosen on a sample drawn with ``seed``; it decides how long the search takes, not
    what it finds.

    From ``exact_below`` rows on, a row is compared with the kept rows of the cells nearest to it, of a
    :class:`~lm_mixup.neighbors.partition.Partition`: as many as hold the share ``recall_target`` of the near pairs of
    ``recall_sample`` rows, and ``least_probes`` at least. Copies are always found.
    """
    n = len(vectors)
    order = np.arange(n) if priority is None else np.lexsort((np.arange(n), priority))
    if n < exact_below:
        short = _reduced(vectors, threshold, seed) if n >= reduce_from else unit(vectors)
        return NearDuplicates(_greedy(vectors, order, _AllKept(vectors, short, threshold), threshold, _GREEDY_ROWS))
    cells = Partition(vectors, seed=seed, threads=threads, cells_per_root=cells_per_root, train_per_cell=train_per_cell)
    probes, recall = _probes(vectors, cells, threshold, recall_target, recall_sample, seed)
    kept = _KeptByCell(vectors, cells, threshold, max(probes, least_probes))
    return NearDuplicates(_greedy(vectors, order, kept, threshold, _CELL_ROWS), False, recall)


class _Kept(Protocol):
    """The rows kept so far."""

    def first(self, rows: Int64s) -> Int64s:
        """For each of these rows the first kept one that is near, or −1."""

    def products(self, rows: Int64s) -> Float32s:
        """(rows, rows) No less than the cosines of these rows with each other, but for rounding."""

    def add(self, rows: Int64s) -> None:
        """These are kept too, after all others."""


def _greedy(vectors: Floats, order: Int64s, kept: _Kept, threshold: float, block: int) -> Int64s:
    """What stands for each row, going through them in ``order``."""
    stands = np.arange(len(order))
    for start in range(0, len(order), block):
        rows = order[start : start + block]
        before = kept.first(rows)
        stands[rows[before >= 0]] = before[before >= 0]
        rows = rows[before < 0]
        bounds = kept.products(rows)
        bounds[np.tri(len(rows), dtype=np.bool_)] = -2
        a, b = _near(vectors, rows, rows, bounds, threshold)
        local = _keep_first(len(rows), np.arange(len(rows)), a, b)
        stands[rows] = rows[local]
        kept.add(rows[local == np.arange(len(rows))])
    return stands


class _AllKept:
    """Every kept row is looked at; ``short`` (n, d) are the rows in fewer dimensions, or in all."""

    def __init__(self, vectors: Floats, short: Float32s, threshold: float):
        self.vectors, self.short, self.threshold = vectors, short, threshold
        self.rows, self.count = np.empty(len(vectors), np.int64), 0
        self.kept = np.empty_like(short)

    def first(self, rows: Int64s) -> Int64s:
        out = np.full(len(rows), -1)
        open_ = np.arange(len(rows))
        for low in range(0, self.count, _GREEDY_COLUMNS):
            part = slice(low, min(low + _GREEDY_COLUMNS, self.count))
            bounds = self.short[rows[open_]] @ self.kept[part].T
            a, b = _near(self.vectors, rows[open_], self.rows[part], bounds, self.threshold)
            # pairs come by row, then by column: the first of a row is its first kept row
            gone, first = np.unique(a, return_index=True)
            out[open_[gone]] = self.rows[part][b[first]]
            open_ = np.delete(open_, gone)
        return out

    def products(self, rows: Int64s) -> Float32s:
        out: Float32s = self.short[rows] @ self.short[rows].T
        return out

    def add(self, rows: Int64s) -> None:
        part = slice(self.count, self.count + len(rows))
        self.rows[part], self.kept[part] = rows, self.short[rows]
        self.count = part.stop


class _KeptByCell:
    """The kept rows of the ``probes`` cells nearest to a row are looked at."""

    def __init__(self, vectors: Floats, cells: Partition, threshold: float, probes: int):
        self.vectors, self.cells, self.threshold = vectors, cells, threshold
        self.probes = min(probes, len(cells.centres))
        sizes = np.bincount(cells.of, minlength=len(cells.centres))
        self.begins = np.concatenate([[0], np.cumsum(sizes)])
        # each cell's part has room for all of its rows, and its kept ones at the front
        self.filled = np.zeros(len(sizes), np.int64)
        self.kept = np.empty(vectors.shape, np.float32)
        self.rank = np.empty(len(vectors), np.int64)  # how many were kept before it
        self.rows, self.count = np.empty(len(vectors), np.int64), 0  # by rank

    def first(self, rows: Int64s) -> Int64s:
        queries = unit(self.vectors[rows])
        closest = self.cells.closest(queries, self.cells.of[rows], self.probes)
        best = np.full(len(rows), self.count)
        by = np.argsort(closest, axis=None, kind="stable")
        cell = closest.ravel()[by]
        edges = np.flatnonzero(np.diff(cell, prepend=cell[:1] + 1, append=cell[-1:] + 1))
        for low, high in pairwise(edges.tolist()):
            begin = self.begins[cell[low]]
            held = slice(begin, begin + self.filled[cell[low]])
            some = by[low:high] // self.probes
            bounds, rank = queries[some] @ self.kept[held].T, self.rank[held]
            a, b = _near(self.vectors, rows[some], self.rows[rank], bounds, self.threshold)
            np.minimum.at(best, some[a], rank[b])
        out = np.full(len(rows), -1)
        out[best < self.count] = self.rows[best[best < self.count]]
        return out

    def products(self, rows: Int64s) -> Float32s:
        queries = unit(self.vectors[rows])
        out: Float32s = queries @ queries.T
        return out

    def add(self, rows: Int64s) -> None:
        by = np.argsort(self.cells.of[rows], kind="stable")
        cell = self.cells.of[rows][by]
        new = np.bincount(cell, minlength=len(self.filled))
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(new) - new, new)
        place = self.begins[cell] + self.filled[cell] + offset
        self.kept[place], self.rank[place] = unit(self.vectors[rows[by]]), self.count + by
        self.rows[self.count : self.count + len(rows)] = rows
        self.filled += new
        self.count += len(rows)


def _probes(
    vectors: Floats, cells: Partition, threshold: float, target: float, sample: int, seed: int
) -> tuple[int, float]:
    """How many cells hold the share ``target`` of the near pairs of ``sample`` rows, and the share that they hold."""
    n, most = len(vectors), len(cells.centres)
    drawn = np.sort(np.random.default_rng([seed, 3]).permutation(n)[:sample])
    queries = unit(vectors[drawn])
    rank = np.empty((len(drawn), most), np.int64)
    closest = cells.closest(queries, cells.of[drawn], most).astype(np.int64)
    np.put_along_axis(rank, closest, np.arange(most)[None], axis=1)
    found = np.zeros(most, np.int64)
    for low in range(0, n, _SAMPLE_ROWS):
        row, column = np.nonzero(queries @ unit(vectors[low : low + _SAMPLE_ROWS]).T >= threshold)
        other = drawn[row] != column + low
        np.add.at(found, rank[row[other], cells.of[low + column[other]]], 1)
    shares = found.cumsum() / max(found.sum(), 1) if found.sum() else np.ones(most)
    probes = int(np.argmax(shares >= target)) + 1
    return probes, float(shares[probes - 1])


def _near(vectors: Floats, rows: Int64s, columns: Int64s, bounds: Float32s, threshold: float) -> tuple[Int64s, Int64s]:
    """Positions (row, column), by row and then column, of the pairs with a cosine of at least ``threshold``.

    ``bounds`` (rows, columns) are at least the cosines, but for rounding; those of pairs not asked for are small.
    """
    a, b = np.divmod(np.flatnonzero(bounds >= threshold - _ROUNDING), max(len(columns), 1))
    near = np.empty(len(a), np.bool_)
    for start in range(0, len(a), _PAIRS):
        part = slice(start, start + _PAIRS)
        left, right = unit(vectors[rows[a[part]]]), unit(vectors[columns[b[part]]])
        # a copy is as near as can be, whatever rounding makes of its cosine
        near[part] = (np.einsum("ij,ij->i", left, right) >= threshold) | (left == right).all(axis=1)
    return a[near], b[near]


def _reduced(vectors: Floats, threshold: float, seed: int) -> Float32s:
    """(n, d + 1) or, where that would not pay, (n, dim): rows whose products are never below the cosines.

    The basis are the principal axes (not centred) of a sample; d is the cheapest on it, where a pair costs d and one
    that is left, of the share that is, ``_PAIR_COST`` more.
    """
    n, dim = vectors.shape
    drawn = np.sort(np.random.default_rng([seed, 2]).permutation(n)[:_SAMPLE_ROWS])
    sample = unit(vectors[drawn])
    axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].astype(np.float32)
    few = slice(0, None, max(1, len(sample) // _SAMPLE_QUERIES))

    def cost(d: int) -> float:
        left = _shorter(sample, axes[:, :d])
        return d + _PAIR_COST * float((left[few] @ left.T >= threshold - _ROUNDING).mean())

    best = min((d for d in _DIMENSIONS if d < dim), key=cost, default=dim)
    if best == dim or cost(best) >= dim:
        return unit(vectors)
    out = np.empty((n, best + 1), np.float32)
    for start in range(0, n, _SAMPLE_ROWS):
        block = vectors[start : start + _SAMPLE_ROWS]
        out[start : start + len(block)] = _shorter(unit(block), axes[:, :best])
    return out


def _shorter(rows: Float32s, axes: Float32s) -> Float32s:
    """(n, d + 1) The rows' coordinates on d orthonormal ``axes`` (dim, d), and the length of the rest."""
    inside = rows @ axes
    rest = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", inside, inside)
    return np.concatenate([inside, np.sqrt(np.maximum(rest, 0))[:, None]], axis=1)


def _keep_first(n: int, place: Int64s, a: Int64s, b: Int64s) -> Int64s:
    """For each row, the first kept row by ``place`` among its pairs, or itself: in rounds, those with no one before."""
    swap = place[a] > place[b]
    before, after = np.where(swap, b, a), np.where(swap, a, b)
    order = np.lexsort((place[before], place[after]))
    before, after = before[order], after[order]
    stands = np.arange(n)
    while len(before):
        blocked = np.zeros(n, np.bool_)
        blocked[after] = True
        # nothing undecided comes before these: they stay, and what comes after them goes
        settled = ~blocked[before]
        gone, first = np.unique(after[settled], return_index=True)
        stands[gone] = before[settled][first]
        out = np.zeros(n, np.bool_)
        out[gone] = True
        keep = ~settled & ~out[after] & ~out[before]
        before, after = before[keep], after[keep]
    return stands


def coverage(
    graph: Graph,
    budget: float,
    *,
    candidates: Int64s | None = None,
    weights: npt.NDArray[np.floating[Any]] | None = None,
    costs: npt.NDArray[np.number[Any]] | None = None,
    cells: Int64s | None = None,
    limits: npt.NDArray[np.number[Any]] | None = None,
    chosen: Int64s | None = None,
) -> Int64s:
    """Rows that together lie near all others: facility location on the graph, by lazy greedy. In order of choice.

    A row is covered by the most similar chosen row that has it as a neighbour (itself: 1; none: 0), and the sum of
    coverage, times ``weights`` (n,) of the covered rows if given, is to be large. ``candidates`` are the rows that may
    be chosen, all by default. ``budget`` bounds the sum of ``costs`` (n,), say tokens, by which gains are divided; each
    row costs 1 by default. With ``cells`` (n,) and ``limits`` (cells,), the costs of each cell's rows are bounded too.
    Rows ``chosen`` before count as there already, and are not chosen again. A row that no longer fits is passed over.

    Greedy reaches at least 1 − 1/e of the best with equal costs (Nemhauser et al. 1978), and half of it with cells.
    """
    n = graph.n
    source = np.repeat(np.arange(n), graph.k)
    target = graph.ids.ravel().astype(np.int64)
    similarity = np.maximum(graph.similarities.ravel().astype(np.float64), 0)
    # j is covered by i where either has the other as a neighbour, and every row by itself
    a = np.concatenate([source, target, np.arange(n)])
    b = np.concatenate([target, source, np.arange(n)])
    value = np.concatenate([similarity, similarity, np.ones(n)])
    keys, first = np.unique(a * n + b, return_index=True)
    starts = np.searchsorted(keys, np.arange(n + 1) * n)
    covers, value = keys % max(n, 1), value[first]
    weight = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    cost = np.ones(n) if costs is None else np.asarray(costs, np.float64)
    covered = np.zeros(n)

    def gain(row: int) -> float:
        part = slice(starts[row], starts[row + 1])
        reached = covers[part]
        return float((np.maximum(value[part] - covered[reached], 0) * weight[reached]).sum() / cost[row])

    def cover(row: int) -> None:
        part = slice(starts[row], starts[row + 1])
        covered[covers[part]] = np.maximum(covered[covers[part]], value[part])

    cell = np.zeros(n, np.int64) if cells is None else np.asarray(cells, np.int64)
    left = np.array([budget]) if limits is None else np.array(limits, np.float64)
    before = np.empty(0, np.int64) if chosen is None else np.asarray(chosen, np.int64)
    for row in before.tolist():
        cover(row)
    rows = np.setdiff1d(np.arange(n) if candidates is None else np.asarray(candidates, np.int64), before)
    heap = [(-gain(row), row, 0) for row in rows.tolist()]
    heapq.heapify(heap)
    picked: list[int] = []
    while heap and budget > 0:
        _, row, seen = heapq.heappop(heap)
        if cost[row] > min(budget, left[cell[row]]):
            continue
        if seen < len(picked):
            heapq.heappush(heap, (-gain(row), row, len(picked)))
            continue
        picked.append(row)
        budget -= cost[row]
        left[cell[row]] -= cost[row]
        cover(row)
    return np.array(picked, np.int64)
