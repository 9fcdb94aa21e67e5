"""What selection rests on: how rare a row is, which rows are the same, which cover the others. METHOD § 1.7, 1.8."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.search import Float32s, Floats, Int64s, similarity_blocks, unit

Bools = npt.NDArray[np.bool_]

_ROUNDING = 1e-3
"""Float16 similarities are at most half of this off; pairs this near to a threshold are computed anew."""


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
    """``stands_for`` (n,): the row that is kept in each row's place, itself where it is kept."""

    stands_for: Int64s

    @property
    def kept(self) -> Bools:
        """(n,) Whether the row is kept."""
        kept: Bools = self.stands_for == np.arange(len(self.stands_for))
        return kept


def near_duplicates(
    vectors: Floats,
    graph: Graph,
    *,
    threshold: float = 0.92,
    priority: npt.NDArray[Any] | None = None,
) -> NearDuplicates:
    """Go through the rows in order of ``priority`` and keep each that is nearer than ``threshold`` to none kept before.

    ``priority`` (n,) ranks the rows, smallest first, equal ones by row number; without it the first row comes first.
    A row that is not kept is stood for by the first, in that order, of the kept rows that are as near as ``threshold``
    in cosine. Right whatever the number of duplicates: where a row has more of them than the graph has neighbours, the
    pairs are searched for. With an approximate graph, a pair may be missed that neither row has as a neighbour.
    """
    n = len(vectors)
    place = np.empty(n, np.int64)
    place[np.arange(n) if priority is None else np.lexsort((np.arange(n), priority))] = np.arange(n)
    # of copies, the first by place stands for all
    best = np.full(n, n)
    np.minimum.at(best, graph.copy_of, place)
    leader = np.argsort(place)[best[graph.copy_of]]
    a, b = _near_pairs(vectors, graph, leader, threshold)
    stands = _keep_first(n, place, a, b)
    return NearDuplicates(stands[leader])


def _near_pairs(vectors: Floats, graph: Graph, leader: Int64s, threshold: float) -> tuple[Int64s, Int64s]:
    """All pairs of leaders with a cosine of at least ``threshold``, each once or twice."""
    n = len(vectors)
    row, column = np.nonzero(graph.similarities >= np.float16(threshold - _ROUNDING))
    a, b = leader[row], leader[graph.ids[row, column]]
    # a row whose last neighbour is still as near as this may have more: they are missing only where both are full
    full = np.zeros(n, np.bool_)
    if 0 < graph.k < n - 1:
        full[leader[graph.similarities[:, -1] >= np.float16(threshold - _ROUNDING)]] = True
    crowded = np.flatnonzero(full)
    parts_a, parts_b = [np.minimum(a, b)], [np.maximum(a, b)]
    rows = unit(vectors[crowded])
    for start, _, table in similarity_blocks(rows, rows):
        row, column = np.nonzero(table[:, : len(rows)] >= threshold - _ROUNDING)
        later = column > row + start
        parts_a.append(crowded[row[later] + start])
        parts_b.append(crowded[column[later]])
    keys = np.unique(np.concatenate(parts_a) * n + np.concatenate(parts_b))
    a, b = keys // max(n, 1), keys % max(n, 1)
    a, b = a[a != b], b[a != b]
    near = np.empty(len(a), np.bool_)
    for start in range(0, len(a), 1 << 14):
        part = slice(start, start + (1 << 14))
        near[part] = np.einsum("ij,ij->i", unit(vectors[a[part]]), unit(vectors[b[part]])) >= threshold
    return a[near], b[near]


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
    costs: npt.NDArray[np.floating[Any]] | None = None,
) -> Int64s:
    """Rows that together lie near all others: facility location on the graph, by lazy greedy. In order of choice.

    A row is covered by the most similar chosen row that has it as a neighbour (itself: 1; none: 0), and the sum of
    coverage, times ``weights`` (n,) of the covered rows if given, is to be large. ``candidates`` are the rows that may
    be chosen, all by default. ``budget`` bounds the sum of ``costs`` (n,), say tokens, by which gains are divided; each
    row costs 1 by default. Greedy reaches at least 1 − 1/e of the best with equal costs (Nemhauser et al. 1978).
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

    rows = np.arange(n) if candidates is None else np.asarray(candidates, np.int64)
    heap = [(-gain(row), row, 0) for row in rows.tolist()]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and budget > 0:
        bound, row, seen = heapq.heappop(heap)
        if cost[row] > budget:
            continue
        if seen < len(chosen):
            heapq.heappush(heap, (-gain(row), row, len(chosen)))
            continue
        if bound > 0:
            break
        chosen.append(row)
        budget -= cost[row]
        part = slice(starts[row], starts[row + 1])
        covered[covers[part]] = np.maximum(covered[covers[part]], value[part])
    return np.array(chosen, np.int64)
