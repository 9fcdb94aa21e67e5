"""Clusters within a size band, by merging best pairs on the k-NN graph. METHOD § 1.4.

The objective is the sum over clusters of |S|, the length of the sum of a cluster's unit vectors, which equals the
summed cosine of the rows to their cluster's mean. Every row begins as its own cluster; in rounds, pairs that are each
other's best are merged, by what the union loses: |S_a + S_b| − |S_a| − |S_b|. A round looks at no more than a cluster's
own neighbours, so a change in one place of the pool moves clusters there and hardly elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.search import Float32s, Floats, Int32s, Int64s, search_exact, unit

Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]
Integers = npt.NDArray[np.integer[Any]]

PLACED, TOO_FEW_ROWS, NO_NEAR_NEIGHBOUR = 0, 1, 2
REASONS = ("", "too-few-rows", "no-near-neighbour")
"""Why a row is in no cluster, by code."""

_DOT_ROWS = 1 << 13
_NOWHERE = -1
_WORTH_MOVING = 1e-5
_OFFERS = 8
"""How many clusters are offered to one that found none among its graph neighbours."""


@dataclass(frozen=True)
class Clustering:
    """What became of each row.

    ``labels`` (n,) int32: cluster numbers 0, 1, … in the order of their first rows, −1 for a row left out;
    ``reasons`` (n,) int8: an index into :data:`REASONS`, 0 for a row that is placed.
    """

    labels: Int32s
    reasons: Int8s

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=-1)) + 1


def cluster(
    vectors: Floats,
    graph: Graph,
    *,
    rows: Integers | None = None,
    groups: Integers | None = None,
    min_size: int = 2,
    max_size: int = 5,
    mean_size: float = 3.0,
    floor: float | None = None,
    candidates: int = 16,
    move_rounds: int = 3,
) -> Clustering:
    """Cluster ``vectors[rows]`` (all rows by default); the result is aligned with ``rows``.

    ``vectors`` (n, dim) are unit rows and ``graph`` is theirs, of all n. Neighbours outside ``rows`` or in another
    group are passed over; a row that is left without any is searched for among its group. ``groups``, one for each of
    ``rows``, never mix.

    Every cluster has ``min_size`` to ``max_size`` rows; in each group the number of clusters aims at ``mean_size`` rows
    a cluster. Without a ``floor`` every row is placed, but for the rows of a group that is too small for a cluster, and
    those by which a group misses every division within the band (7 rows in clusters of 4 or 5): ``too-few-rows``. With
    a ``floor``, a row whose mean cosine to the others of its cluster would fall below it is left out:
    ``no-near-neighbour``. ``candidates`` is how many graph neighbours a row are considered; in ``move_rounds`` rounds
    at the end, rows go over to a neighbour's cluster where both clusters together gain.
    """
    if not 1 <= min_size <= mean_size <= max_size:
        raise ValueError(f"expected 1 <= min_size <= mean_size <= max_size, got {min_size}, {mean_size}, {max_size}")
    chosen = np.arange(len(vectors)) if rows is None else np.asarray(rows, np.int64)
    n = len(chosen)
    group = np.zeros(n, np.int64) if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
    reasons = np.zeros(n, np.int8)
    reasons[np.bincount(group, minlength=1)[group] < min_size] = TOO_FEW_ROWS

    build = _Build(unit(vectors[chosen]), group, min_size, max_size, floor)
    edges = _edges(graph, chosen, group, len(vectors), candidates, build.rows, np.flatnonzero(reasons == PLACED))
    if floor is not None:
        near = np.zeros(n, np.bool_)
        near[edges.keep(edges.gain >= _gain_of(floor)).ends()] = True
        reasons[(reasons == PLACED) & ~near] = NO_NEAR_NEIGHBOUR
    build.leave_out(np.flatnonzero(reasons != PLACED))
    size_of_group = np.bincount(group[reasons == PLACED], minlength=build.groups)
    wanted = np.rint(size_of_group / mean_size).astype(np.int64)

    build.merge(edges, wanted)
    build.place_small(wanted)
    if floor is None:
        build.fill_up()
    for _ in range(move_rounds):
        if not build.move(edges):
            break
    if floor is not None:
        build.evict(floor, edges, wanted)
    labels = build.labels()
    reasons[(labels < 0) & (reasons == PLACED)] = TOO_FEW_ROWS if floor is None else NO_NEAR_NEIGHBOUR
    return Clustering(labels, reasons)


@dataclass
class _Pairs:
    """Pairs that might merge: a < b, each once, sorted by (a, b), with what the union would lose (≤ 0)."""

    a: Int64s
    b: Int64s
    gain: Float32s

    def keep(self, which: Bools) -> _Pairs:
        return _Pairs(self.a[which], self.b[which], self.gain[which])

    def ends(self) -> Int64s:
        return np.concatenate([self.a, self.b])


def _gain_of(cosine: float) -> float:
    """What two unit rows of this cosine lose by merging, a hair less: for comparing with float16 similarities."""
    return float(np.sqrt(2 + 2 * (cosine - 1e-3)) - 2)


def _edges(
    graph: Graph, chosen: Int64s, group: Int64s, total: int, candidates: int, rows: Float32s, placed: Int64s
) -> _Pairs:
    """Pairs of ``chosen`` rows that are graph neighbours within a group; rows without any get pairs by a search."""
    n = len(chosen)
    where = np.full(total, -1, np.int64)
    where[chosen[placed]] = placed
    near = graph.nearest(candidates)
    a = np.repeat(placed, near.k)
    b = where[near.ids[chosen[placed]].ravel()]
    cosine = near.similarities[chosen[placed]].ravel().astype(np.float32)
    inside = (b >= 0) & (group[a] == group[b])
    a, b, cosine = a[inside], b[inside], cosine[inside]
    lonely = placed[np.bincount(a, minlength=n)[placed] == 0]
    for query, base in _by_group(lonely, placed, group):
        k = min(_OFFERS, len(base) - 1)
        found, values = search_exact(rows[query], rows[base], k, own=np.searchsorted(base, query))
        a = np.concatenate([a, np.repeat(query, k)])
        b = np.concatenate([b, base[found].ravel()])
        cosine = np.concatenate([cosine, values.ravel().astype(np.float32)])
    keys, first = np.unique(np.minimum(a, b) * n + np.maximum(a, b), return_index=True)
    return _Pairs(keys // max(n, 1), keys % max(n, 1), np.sqrt(np.maximum(2 + 2 * cosine[first], 0)) - 2)


def _by_group(queries: Int64s, base: Int64s, group: Int64s) -> list[tuple[Int64s, Int64s]]:
    """For each group with queries: they, and its part of ``base``; both ascending. Groups of fewer than 2 are none."""
    if not len(queries):
        return []
    queries, base = queries[np.argsort(group[queries], kind="stable")], base[np.argsort(group[base], kind="stable")]
    parts = []
    for one in np.unique(group[queries]):
        low, high = np.searchsorted(group[queries], [one, one + 1])
        base_low, base_high = np.searchsorted(group[base], [one, one + 1])
        if base_high - base_low > 1:
            parts.append((queries[low:high], base[base_low:base_high]))
    return parts


class _Build:
    """Clusters in the making, each in a slot: there are as many slots as rows, and at first each row is in its own.

    A slot belongs to the group of its row for good, and so do the clusters in it.
    """

    def __init__(self, rows: Float32s, group: Int64s, min_size: int, max_size: int, floor: float | None):
        n = len(rows)
        self.rows, self.group, self.floor = rows, group, floor
        self.groups = int(group.max(initial=-1)) + 1
        self.min_size, self.max_size = min_size, max_size
        self.sums = rows.copy()  # (n, dim), stale where a cluster is gone
        self.norms = np.ones(n, np.float32)
        self.sizes = np.ones(n, np.int64)  # 0 where a cluster is gone
        self.of = np.arange(n)  # the cluster of each row, or nowhere

    def leave_out(self, rows: Int64s) -> None:
        """Rows that take no part."""
        self.of[rows], self.sizes[rows] = _NOWHERE, 0

    def merge(self, pairs: _Pairs, wanted: Int64s) -> None:
        """Merge pairs in rounds until none is allowed.

        Two clusters within the band merge only where their group has more such than ``wanted`` (one number a group);
        one below the band may always merge.
        """
        pairs = self._allowed(pairs)
        while len(pairs.a):
            firm_a, firm_b = self.sizes[pairs.a] >= self.min_size, self.sizes[pairs.b] >= self.min_size
            both = firm_a & firm_b
            slots = np.flatnonzero(self.sizes >= self.min_size)
            spare = np.bincount(self.group[slots], minlength=self.groups) - wanted
            best = self._mutual(pairs, np.flatnonzero(~both | (spare > 0)[self.group[pairs.a]]))
            costly = best[both[best]]
            over = _rank_within(self.group[pairs.a[costly]]) >= spare[self.group[pairs.a[costly]]]
            best = np.setdiff1d(best, costly[over], assume_unique=True)
            if not len(best):
                break
            kept, gone = pairs.a[best], pairs.b[best]
            self._join(kept, gone)
            pairs = self._after(pairs, kept, gone)

    def _mutual(self, pairs: _Pairs, among: Int64s) -> Int64s:
        """Those of ``among`` that are the best pair of both their ends, best first; ties go to the lower rows."""
        by = among[np.argsort(-pairs.gain[among], kind="stable")]
        rank = np.arange(len(by))
        best = np.full(len(self.rows), len(by))
        np.minimum.at(best, pairs.a[by], rank)
        np.minimum.at(best, pairs.b[by], rank)
        mutual: Int64s = by[(best[pairs.a[by]] == rank) & (best[pairs.b[by]] == rank)]
        return mutual

    def _join(self, kept: Int64s, gone: Int64s) -> None:
        self.sums[kept] += self.sums[gone]
        self.sizes[kept] += self.sizes[gone]
        self.sizes[gone] = 0
        self.norms[kept] = np.sqrt(np.einsum("ij,ij->i", self.sums[kept], self.sums[kept]))
        to = np.arange(len(self.of))
        to[gone] = kept
        self.of = np.where(self.of >= 0, to[self.of], _NOWHERE)

    def _after(self, pairs: _Pairs, kept: Int64s, gone: Int64s) -> _Pairs:
        """The pairs after a round of merges: ends renamed, doubles dropped, gains of changed clusters anew."""
        to = np.arange(len(self.of))
        to[gone] = kept
        changed = np.zeros(len(self.of), np.bool_)
        changed[kept] = changed[gone] = True
        touched = changed[pairs.a] | changed[pairs.b]
        fresh = self.pairs_of(to[pairs.a[touched]], to[pairs.b[touched]])
        old = pairs.keep(~touched)
        a, b = np.concatenate([old.a, fresh.a]), np.concatenate([old.b, fresh.b])
        by = np.lexsort((b, a))
        return _Pairs(a[by], b[by], np.concatenate([old.gain, fresh.gain])[by])

    def pairs_of(self, a: Int64s, b: Int64s) -> _Pairs:
        """The allowed pairs of these clusters, with their gains."""
        n = len(self.of)
        keys = np.unique((np.minimum(a, b) * n + np.maximum(a, b))[(a != b) & (a >= 0) & (b >= 0)])
        a, b = keys // max(n, 1), keys % max(n, 1)
        small = self.sizes[a] + self.sizes[b] <= self.max_size
        a, b = a[small], b[small]
        dots = _dots(self.sums, a, self.sums, b)
        gain = (
            np.sqrt(np.maximum(self.norms[a] ** 2 + self.norms[b] ** 2 + 2 * dots, 0)) - self.norms[a] - self.norms[b]
        )
        pairs = _Pairs(a, b, gain)
        # the mean cosine between the rows of the one and the rows of the other
        return pairs if self.floor is None else pairs.keep(dots >= self.floor * self.sizes[a] * self.sizes[b])

    def _allowed(self, pairs: _Pairs) -> _Pairs:
        size_a, size_b = self.sizes[pairs.a], self.sizes[pairs.b]
        fits = (size_a > 0) & (size_b > 0) & (size_a + size_b <= self.max_size)
        if self.floor is not None:
            fits &= (size_a + size_b > 2) | (pairs.gain >= _gain_of(self.floor))
        return pairs.keep(fits)

    def place_small(self, wanted: Int64s) -> None:
        """Merge clusters below the band that have no graph neighbour with room with the nearest that has."""
        while True:
            offers = self._offers(self._small())
            if not len(offers.a):
                return
            self.merge(offers, wanted)

    def _small(self) -> Int64s:
        """Clusters below the band."""
        return np.flatnonzero((self.sizes > 0) & (self.sizes < self.min_size))

    def _offers(self, clusters: Int64s) -> _Pairs:
        """Pairs of each of these with the clusters nearest to it that have room for one of its size."""
        found_a, found_b = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for size in np.unique(self.sizes[clusters]):
            room = np.flatnonzero((self.sizes > 0) & (self.sizes + size <= self.max_size))
            for query, base in _by_group(clusters[self.sizes[clusters] == size], room, self.group):
                near, _ = search_exact(unit(self.sums[query]), unit(self.sums[base]), min(_OFFERS + 1, len(base)))
                found_a.append(np.repeat(query, near.shape[1]))
                found_b.append(base[near].ravel())
        return self.pairs_of(np.concatenate(found_a), np.concatenate(found_b))

    def fill_up(self) -> None:
        """Place the rows of clusters below the band one by one, and where no cluster has room take rows from others.

        Comes after :meth:`place_small`, so it meets few rows: those of groups that are full, or nearly. Rows by which a
        group misses every division within the band stay in a cluster below it.
        """
        small = self._small()
        for group in np.unique(self.group[small]):
            waiting = np.flatnonzero(np.isin(self.of, small) & (self.group == group))
            waiting = waiting[np.lexsort((self.of[waiting], -self.sizes[self.of[waiting]]))]
            self._leave(waiting)
            waiting = np.array([row for row in waiting.tolist() if not self._enter_where_room(row)], np.int64)
            # every cluster is full now; several below the band may still wait, none of which fits into another
            while len(waiting) >= self.min_size:
                part, waiting = waiting[: self.max_size], waiting[self.max_size :]
                self._enter(part, np.repeat(self._free_slots(part[:1]), len(part)))
            spared = (self.sizes - self.min_size)[(self.group == group) & (self.sizes > self.min_size)].sum()
            if len(waiting) and spared >= self.min_size - len(waiting):
                slot = self._free_slots(waiting[:1])[0]
                self._enter(waiting, np.repeat(slot, len(waiting)))
                while self.sizes[slot] < self.min_size:
                    self._take_from_others(slot)

    def _enter_where_room(self, row: int) -> bool:
        """Put a row into the cluster of its group that gains most by it, if one has room."""
        room = np.flatnonzero((self.sizes >= self.min_size) & (self.sizes < self.max_size))
        room = room[self.group[room] == self.group[row]]
        if len(room):
            gain = _length_with(self.norms[room], self.sums[room] @ self.rows[row], 1) - self.norms[room]
            self._enter(np.array([row]), room[[np.argmax(gain)]])
        return bool(len(room))

    def _take_from_others(self, slot: int) -> None:
        """Move the row that costs least from a cluster that can spare one into this one."""
        spare = np.flatnonzero((self.group == self.group[slot]) & (self.of >= 0) & (self.of != slot))
        spare = spare[self.sizes[self.of[spare]] > self.min_size]
        joined = _length_with(self.norms[[slot]], self.rows[spare] @ self.sums[slot], 1) - self.norms[slot]
        row = spare[[np.argmax(joined - self._loss_without(spare))]]
        self._leave(row)
        self._enter(row, np.array([slot]))

    def move(self, edges: _Pairs) -> bool:
        """Let rows go over to a graph neighbour's cluster where the sum of lengths grows; whether any did."""
        cosine = ((edges.gain + 2) ** 2 - 2) / 2
        row, other = edges.ends(), np.concatenate([edges.b, edges.a])
        source, target = self.of[row], self.of[other]
        possible = (source != target) & (source >= 0) & (target >= 0)
        possible &= (self.sizes[source] > self.min_size) & (self.sizes[target] < self.max_size)
        # a neighbour nearer than the own cluster is on the average: few rows have one, and only they are looked at
        possible &= np.concatenate([cosine, cosine]) > self.affinity()[row]
        row, target = row[possible], target[possible]
        keys = np.unique(row * len(self.of) + target)
        row, target = keys // max(len(self.of), 1), keys % max(len(self.of), 1)
        joined = _length_with(self.norms[target], _dots(self.rows, row, self.sums, target), 1) - self.norms[target]
        gain = joined - self._loss_without(row)
        worth = np.flatnonzero(gain > _WORTH_MOVING)
        if not len(worth):
            return False
        moves = _Pairs(self.of[row], target, gain)
        best = self._mutual(moves, worth)
        goes, to = row[best], target[best]
        self._leave(goes)
        self._enter(goes, to)
        return True

    def affinity(self) -> Float32s:
        """(n,) Mean cosine of each row to the others of its cluster; 1 for a row alone or left out."""
        out = np.ones(len(self.of), np.float32)
        row = np.flatnonzero(self.of >= 0)
        row = row[self.sizes[self.of[row]] > 1]
        out[row] = (_dots(self.rows, row, self.sums, self.of[row]) - 1) / (self.sizes[self.of[row]] - 1)
        return out

    def _loss_without(self, row: Int64s) -> Float32s:
        """What the length of each row's cluster loses when the row leaves it."""
        norms = self.norms[self.of[row]]
        return norms - _length_with(norms, -_dots(self.rows, row, self.sums, self.of[row]), 1)

    def evict(self, floor: float, edges: _Pairs, wanted: Int64s) -> None:
        """Take out rows below the floor, give them one chance with another cluster, and leave out the rest for good."""
        self._evict_once(floor, stay=True)
        self.merge(self.pairs_of(self.of[edges.a], self.of[edges.b]), wanted)
        self._evict_once(floor, stay=False)

    def _evict_once(self, floor: float, *, stay: bool) -> None:
        """Take the farthest row out of each cluster until none is below ``floor``; ``stay``: as clusters of one."""
        out: list[Int64s] = []
        while True:
            affinity = self.affinity()
            low = np.flatnonzero((affinity < floor) & (self.of >= 0))
            low = low[np.lexsort((low, affinity[low], self.of[low]))]
            low = low[_rank_within(self.of[low]) == 0]
            if not len(low):
                break
            self._leave(low)
            out.append(low)
        small = self._small()
        rest = np.flatnonzero(np.isin(self.of, small))
        self._leave(rest)
        if stay:
            rows = np.sort(np.concatenate([*out, rest]))
            self._enter(rows, self._free_slots(rows))

    def _leave(self, rows: Int64s) -> None:
        """Take rows out of their clusters."""
        source = self.of[rows]
        np.subtract.at(self.sums, source, self.rows[rows])
        np.subtract.at(self.sizes, source, 1)
        self._measure(source)
        self.of[rows] = _NOWHERE

    def _enter(self, rows: Int64s, slots: Int64s) -> None:
        """Put rows that are nowhere into clusters."""
        self.sums[slots[self.sizes[slots] == 0]] = 0
        np.add.at(self.sums, slots, self.rows[rows])
        np.add.at(self.sizes, slots, 1)
        self._measure(slots)
        self.of[rows] = slots

    def _measure(self, slots: Int64s) -> None:
        self.norms[slots] = np.sqrt(_dots(self.sums, slots, self.sums, slots))

    def _free_slots(self, rows: Int64s) -> Int64s:
        """A slot of a gone cluster for each of these rows that are nowhere, in its group: there are enough."""
        free = np.flatnonzero(self.sizes == 0)
        free = free[np.argsort(self.group[free], kind="stable")]
        first = np.searchsorted(self.group[free], self.group[rows])
        slots: Int64s = free[first + _rank_within(self.group[rows])]
        return slots

    def labels(self) -> Int32s:
        """Clusters within the band, numbered by their first rows; −1 for the rest."""
        out = np.full(len(self.of), -1, np.int32)
        row = np.flatnonzero(self.of >= 0)
        row = row[self.sizes[self.of[row]] >= self.min_size]
        _, first, inverse = np.unique(self.of[row], return_index=True, return_inverse=True)
        out[row] = np.argsort(np.argsort(first))[inverse]
        return out


def _dots(left: Float32s, a: Int64s, right: Float32s, b: Int64s) -> Float32s:
    """The products of ``left[a]`` with ``right[b]``, pair by pair, in blocks that fit the cache."""
    out = np.empty(len(a), np.float32)
    for start in range(0, len(a), _DOT_ROWS):
        part = slice(start, start + _DOT_ROWS)
        out[part] = np.einsum("ij,ij->i", left[a[part]], right[b[part]])
    return out


def _length_with(norms: Float32s, dots: Float32s, length: float) -> Float32s:
    """|S + x| from |S|, S·x and |x|²."""
    out: Float32s = np.sqrt(np.maximum(norms**2 + 2 * dots + length, 0))
    return out


def _rank_within(keys: Int64s) -> Int64s:
    """How many equal keys come before each."""
    by = np.argsort(keys, kind="stable")
    ordered = keys[by]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else by
    out = np.empty(len(keys), np.int64)
    out[by] = np.arange(len(keys)) - np.repeat(begins, np.diff(np.concatenate([begins, [len(keys)]])))
    return out


def figures(vectors: Floats, rows: Integers, labels: Int64s) -> dict[str, Any]:
    """What a report says of clusters; ``labels`` (m,) are aligned with ``rows``, negative ones are rows left out.

    ``cosine_to_mean``: mean over rows of the cosine to their cluster's mean. ``pairwise_cosine``: mean over all pairs
    of rows that share a cluster. ``pairwise_cosine_by_cluster``: each cluster's own mean over its pairs, in the mean
    over clusters (many tiny clusters weigh much in it), and ``…_tenth_percentile`` of the same.
    """
    placed = np.flatnonzero(labels >= 0)
    _, numbers = np.unique(labels[placed], return_inverse=True)
    sizes = np.bincount(numbers)
    out: dict[str, Any] = {
        "clusters": len(sizes),
        "rows_placed": len(placed),
        "mean_size": round(len(placed) / max(len(sizes), 1), 3),
        "sizes": {int(size): int(count) for size, count in enumerate(np.bincount(sizes)) if size and count},
    }
    if not len(placed):
        return out
    by = placed[np.argsort(numbers, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    lengths = np.empty(len(sizes), np.float64)
    # whole clusters at a time, a few thousand rows
    for low in range(0, len(sizes), 4096):
        high = min(low + 4096, len(sizes))
        end = len(by) if high == len(sizes) else starts[high]
        sums = np.add.reduceat(unit(vectors[rows[by[starts[low] : end]]]), starts[low:high] - starts[low], axis=0)
        lengths[low:high] = np.sqrt(np.einsum("ij,ij->i", sums, sums))
    several = sizes > 1
    cosines, pairs = lengths[several] ** 2 - sizes[several], sizes[several] * (sizes[several] - 1)
    out["cosine_to_mean"] = round(float(lengths.sum() / len(placed)), 4)
    if len(pairs):
        out["pairwise_cosine"] = round(float(cosines.sum() / pairs.sum()), 4)
        out["pairwise_cosine_by_cluster"] = round(float((cosines / pairs).mean()), 4)
        out["pairwise_cosine_tenth_percentile"] = round(float(np.quantile(cosines / pairs, 0.1)), 4)
    return out
