"""Clusters in the making: merging best pairs, placing what is left, moving rows, and taking out those too far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors.search import Float32s, Int32s, Int64s, pair_products, search_exact, unit

Bools = npt.NDArray[np.bool_]

_NOWHERE = -1
_WORTH_MOVING = 1e-5
OFFERS = 8
"""How many clusters are offered to one that found none among its graph neighbours."""


@dataclass
class Pairs:
    """Pairs that might merge: a < b, each once, sorted by (a, b), with what the union would lose (≤ 0)."""

    a: Int64s
    b: Int64s
    gain: Float32s

    def keep(self, which: Bools) -> Pairs:
        """Only these."""
        return Pairs(self.a[which], self.b[which], self.gain[which])

    def ends(self) -> Int64s:
        """(2 × pairs,) All first ends, then all second ones."""
        return np.concatenate([self.a, self.b])


def gain_of(cosine: float) -> float:
    """What two unit rows of this cosine lose by merging, a hair less: for comparing with float16 similarities."""
    return float(np.sqrt(2 + 2 * (cosine - 1e-3)) - 2)


def by_group(queries: Int64s, base: Int64s, group: Int64s) -> list[tuple[Int64s, Int64s]]:
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


class Build:
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

    def merge(self, pairs: Pairs, wanted: Int64s) -> None:
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

    def _mutual(self, pairs: Pairs, among: Int64s) -> Int64s:
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

    def _after(self, pairs: Pairs, kept: Int64s, gone: Int64s) -> Pairs:
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
        return Pairs(a[by], b[by], np.concatenate([old.gain, fresh.gain])[by])

    def pairs_of(self, a: Int64s, b: Int64s) -> Pairs:
        """The allowed pairs of these clusters, with their gains."""
        n = len(self.of)
        keys = np.unique((np.minimum(a, b) * n + np.maximum(a, b))[(a != b) & (a >= 0) & (b >= 0)])
        a, b = keys // max(n, 1), keys % max(n, 1)
        small = self.sizes[a] + self.sizes[b] <= self.max_size
        a, b = a[small], b[small]
        dots = pair_products(self.sums, a, self.sums, b)
        gain = (
            np.sqrt(np.maximum(self.norms[a] ** 2 + self.norms[b] ** 2 + 2 * dots, 0)) - self.norms[a] - self.norms[b]
        )
        pairs = Pairs(a, b, gain)
        # the mean cosine between the rows of the one and the rows of the other
        return pairs if self.floor is None else pairs.keep(dots >= self.floor * self.sizes[a] * self.sizes[b])

    def _allowed(self, pairs: Pairs) -> Pairs:
        size_a, size_b = self.sizes[pairs.a], self.sizes[pairs.b]
        fits = (size_a > 0) & (size_b > 0) & (size_a + size_b <= self.max_size)
        if self.floor is not None:
            fits &= (size_a + size_b > 2) | (pairs.gain >= gain_of(self.floor))
        return pairs.keep(fits)

    def complete(self, edges: Pairs) -> None:
        """Let clusters of two rows or more that are below the band draw graph neighbours until they are within it.

        They draw from clusters that can spare a row, and from smaller ones below the band; where it needs more rows
        than those around it can spare, a cluster draws none. In a narrow band (4–5) this is what becomes of most rows
        that the merging leaves over: three mates of two full clusters take one from them, rather than go to strangers.
        """
        row, other = edges.ends(), np.concatenate([edges.b, edges.a])
        while True:
            source, target = self.of[row], self.of[other]
            has, gets = self.sizes[source], self.sizes[target]
            possible = (source >= 0) & (target >= 0) & (source != target) & (gets > 1) & (gets < self.min_size)
            smaller = (has < gets) | ((has == gets) & (source > target))
            possible &= (has > self.min_size) | ((has < self.min_size) & smaller)
            keys = np.unique(row[possible] * len(self.of) + target[possible])
            goes, to = keys // max(len(self.of), 1), keys % max(len(self.of), 1)
            needs = self.min_size - self.sizes[to]
            goes, to, needs = (part[needs <= self._spared(self.of[goes], to)] for part in (goes, to, needs))
            dots = pair_products(self.rows, goes, self.sums, to)
            gain = _length_with(self.norms[to], dots, 1) - self.norms[to] - self._loss_without(goes)
            # those that need fewest come first: no gain is as large as 2
            gain -= (2 * needs).astype(np.float32)
            near = np.ones(len(to), np.bool_) if self.floor is None else dots >= self.floor * self.sizes[to]
            best = self._mutual(Pairs(self.of[goes], to, gain), np.flatnonzero(near))
            if not len(best):
                return
            goes, to = goes[best], to[best]
            self._leave(goes)
            self._enter(goes, to)

    def _spared(self, source: Int64s, target: Int64s) -> Int64s:
        """For each pair, how many rows all of the target's sources can spare."""
        n = len(self.of)
        keys = np.unique(target * n + source)
        a, b = keys // max(n, 1), keys % max(n, 1)
        over = np.where(self.sizes[b] > self.min_size, self.sizes[b] - self.min_size, self.sizes[b])
        spared: Int64s = np.bincount(a, over, minlength=n)[target].astype(np.int64)
        return spared

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

    def _offers(self, clusters: Int64s) -> Pairs:
        """Pairs of each of these with the clusters nearest to it that have room for one of its size."""
        found_a, found_b = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for size in np.unique(self.sizes[clusters]):
            room = np.flatnonzero((self.sizes > 0) & (self.sizes + size <= self.max_size))
            for query, base in by_group(clusters[self.sizes[clusters] == size], room, self.group):
                near, _ = search_exact(unit(self.sums[query]), unit(self.sums[base]), min(OFFERS + 1, len(base)))
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

    def move(self, edges: Pairs) -> bool:
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
        joined = (
            _length_with(self.norms[target], pair_products(self.rows, row, self.sums, target), 1) - self.norms[target]
        )
        gain = joined - self._loss_without(row)
        worth = np.flatnonzero(gain > _WORTH_MOVING)
        if not len(worth):
            return False
        moves = Pairs(self.of[row], target, gain)
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
        out[row] = (pair_products(self.rows, row, self.sums, self.of[row]) - 1) / (self.sizes[self.of[row]] - 1)
        return out

    def _loss_without(self, row: Int64s) -> Float32s:
        """What the length of each row's cluster loses when the row leaves it."""
        norms = self.norms[self.of[row]]
        return norms - _length_with(norms, -pair_products(self.rows, row, self.sums, self.of[row]), 1)

    def evict(self, floor: float, edges: Pairs, wanted: Int64s) -> None:
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
        self.norms[slots] = np.sqrt(pair_products(self.sums, slots, self.sums, slots))

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
