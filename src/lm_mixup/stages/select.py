"""Select: order the candidates, leave out near-duplicates, and take the budget in the ratio asked for.

METHOD § 1, steps 7 and 8: by rating, then by long-tail score, both descending [D]; a share of distilled rows [P].
Strata, budgets in tokens and choice by coverage are our own additions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lm_mixup import neighbors, selection
from lm_mixup.errors import InvariantError
from lm_mixup.neighbors import Graph
from lm_mixup.records import Sample, rating_class

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("rating", pa.float64(), nullable=False),
        pa.field("long_tail", pa.float64(), nullable=False),
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("represented_by", pa.string()),
    ]
)
"""One row a candidate; not selected: ``reason`` is ``too-few-sources``, ``near-duplicate`` (of
``represented_by``) or ``over-budget``."""

DISTILLED, ORIGINAL = "distilled", "original"

CHARACTERS_PER_TOKEN = 4
"""English text under the usual tokenizers; an estimate, since every model counts its own way."""

_COVERAGE_NEIGHBORS = 24
"""Nearest rows that a chosen row covers."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """What may go into the train set. Aligned: ids, origins, texts, ratings (0–5) and unit vectors (n, dim).

    ``texts`` are content hashes: equal hashes are the same text. ``sources``: how many rows of the pool each was made
    from (1 for an original). ``tokens`` (n,) int64, at least 1: what each row costs where the budget is in tokens;
    ``groups`` (n,) the stratum of each, all one by default.
    """

    ids: list[str]
    origins: list[str]
    texts: list[str]
    sources: list[int]
    ratings: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float32]
    tokens: Int64s | None = None
    groups: list[str] | None = None


@dataclass(frozen=True)
class Selection:
    """The records of every candidate, in the order given, and what to tell the user."""

    table: pa.Table
    notes: tuple[str, ...] = ()
    figures: dict[str, int | float] = field(default_factory=dict)


def tokens_of(samples: Iterable[Sample]) -> list[int]:
    """What each sample costs, estimated: the characters of its conversation by :data:`CHARACTERS_PER_TOKEN`, up."""
    return [max(1, -(-sum(len(m.content) for m in s.messages) // CHARACTERS_PER_TOKEN)) for s in samples]


class SelectStage:
    """Takes the budget in candidates, ``ratio`` of it distilled; one side fills what the other lacks.

    ``in_tokens``: the budget, and with it the ratio, is counted in the candidates' tokens instead of rows. A row that
    no longer fits is passed over. Each side's part is split over the candidates' groups in proportion to what their
    candidates cost (largest remainders); what a group lacks its side fills, then the other side. ``method``: "rank"
    takes the first in ``order``; "coverage" those that together lie nearest to all candidates.
    """

    def __init__(
        self,
        *,
        ratio: float = 0.5,
        neighbors: int = 15,
        order: Literal["class", "rating"] = "class",
        duplicate_cosine: float | None = 0.98,
        min_sources: int = 2,
        in_tokens: bool = False,
        method: Literal["rank", "coverage"] = "rank",
        seed: int = 0,
    ) -> None:
        self._ratio = ratio
        self._neighbors = neighbors
        self._order = order
        self._duplicate_cosine = duplicate_cosine
        self._min_sources = min_sources
        self._in_tokens = in_tokens
        self._method = method
        self._seed = seed

    def run(self, candidates: Candidates, budget: int) -> Selection:
        """``budget``: rows, or tokens. Deterministic: ties end with the id."""
        count = len(candidates.ids)
        k = max(self._neighbors, _COVERAGE_NEIGHBORS) if self._method == "coverage" else self._neighbors
        graph = neighbors.build(candidates.vectors, k, seed=self._seed)
        long_tail = selection.long_tail(graph, k=self._neighbors)
        ranked = self._rank(candidates, long_tail)
        stands_for = self._representatives(candidates, ranked)
        thin = {i for i in range(count) if self._is_thin(candidates, i)}
        usable = np.array([i for i in ranked if stands_for[i] == i and i not in thin], np.int64)
        costs = self._costs(candidates)
        distilled = np.array([origin == DISTILLED for origin in candidates.origins], np.bool_)
        chosen = self._choose(candidates, graph, usable, distilled, costs, budget)
        taken = np.zeros(count, np.bool_)
        taken[chosen] = True
        rows = [
            {
                "id": candidates.ids[i],
                "origin": candidates.origins[i],
                "rating": float(candidates.ratings[i]),
                "long_tail": float(long_tail[i]),
                "selected": bool(taken[i]),
                "reason": self._reason(bool(taken[i]), i in thin, stands_for[i] == i),
                "represented_by": None if stands_for[i] == i else candidates.ids[stands_for[i]],
            }
            for i in range(count)
        ]
        figures: dict[str, int | float] = {
            "budget": budget,
            "distilled": int(distilled[chosen].sum()),
            "original": int((~distilled[chosen]).sum()),
            "candidates_distilled": int(distilled[usable].sum()),
            "candidates_original": int((~distilled[usable]).sum()),
        }
        if self._in_tokens:
            figures["tokens"] = int(costs[chosen].sum())
        notes = self._notes(usable, chosen, distilled, costs, budget)
        return Selection(pa.Table.from_pylist(rows, schema=SCHEMA), notes, figures)

    def _costs(self, candidates: Candidates) -> Int64s:
        if not self._in_tokens:
            return np.ones(len(candidates.ids), np.int64)
        if candidates.tokens is None or (len(candidates.tokens) and candidates.tokens.min() < 1):
            raise InvariantError("select: the budget is in tokens, but the candidates do not say what each costs")
        return candidates.tokens

    def _choose(
        self,
        candidates: Candidates,
        graph: Graph,
        usable: Int64s,
        distilled: npt.NDArray[np.bool_],
        costs: Int64s,
        budget: int,
    ) -> Int64s:
        """The rows of ``usable`` to take, in three rounds: each group its part, each side its part, and the rest."""
        names = candidates.groups or [""] * len(costs)
        cells: dict[tuple[bool, str], int] = {}
        for i in usable.tolist():
            cells.setdefault((bool(distilled[i]), names[i]), len(cells))
        cell = np.array([cells.get((bool(d), name), 0) for d, name in zip(distilled, names, strict=True)], np.int64)
        side = distilled.astype(np.int64)
        from_distilled = round(budget * self._ratio)
        by_side = np.array([budget - from_distilled, from_distilled])
        weight = np.bincount(cell[usable], costs[usable], minlength=len(cells))
        by_cell = np.zeros(len(cells), np.int64)
        for origin in (False, True):
            of_side = np.array([number for (mine, _), number in cells.items() if mine == origin], np.int64)
            by_cell[of_side] = apportioned(int(by_side[int(origin)]), weight[of_side])
        chosen = self._round(graph, usable, costs, cell, by_cell, np.empty(0, np.int64))
        spent = np.bincount(side[chosen], costs[chosen], minlength=2).astype(np.int64)
        chosen = self._round(graph, usable, costs, side, by_side - spent, chosen)
        rest = np.array([budget - costs[chosen].sum()], np.int64)
        return self._round(graph, usable, costs, np.zeros_like(side), rest, chosen)

    def _round(
        self, graph: Graph, usable: Int64s, costs: Int64s, cell: Int64s, limits: Int64s, chosen: Int64s
    ) -> Int64s:
        """``chosen``, and after them what else fits into the limits of the cells."""
        if not len(usable) or limits.max(initial=0) < 1:
            return chosen
        if self._method == "coverage":
            more = selection.coverage(
                graph, int(limits.sum()), candidates=usable, costs=costs, cells=cell, limits=limits, chosen=chosen
            )
            return np.concatenate([chosen, more])
        left, before, picked = limits.copy(), set(chosen.tolist()), []
        for i in usable.tolist():
            if i not in before and costs[i] <= left[cell[i]]:
                left[cell[i]] -= costs[i]
                picked.append(i)
        return np.concatenate([chosen, np.array(picked, np.int64)])

    def _is_thin(self, candidates: Candidates, i: int) -> bool:
        # a "distillate" of one row is that row, polished: it was low, and must not come in by the back door
        return candidates.origins[i] == DISTILLED and candidates.sources[i] < self._min_sources

    @staticmethod
    def _reason(chosen: bool, thin: bool, stands: bool) -> str | None:
        if chosen:
            return None
        return "too-few-sources" if thin else "over-budget" if stands else "near-duplicate"

    def _rank(self, candidates: Candidates, long_tail: npt.NDArray[np.float32]) -> list[int]:
        def best_first(i: int) -> tuple[float, float, float, str]:
            rating, rare = float(candidates.ratings[i]), float(long_tail[i])
            if self._order == "class":
                return (-rating_class(rating), -rare, -rating, candidates.ids[i])
            return (-rating, -rare, 0.0, candidates.ids[i])

        return sorted(range(len(candidates.ids)), key=best_first)

    def _representatives(self, candidates: Candidates, ranked: list[int]) -> list[int]:
        """For every candidate the one that stands for it: itself, or a better one with (nearly) the same text."""
        first: dict[str, int] = {}
        # a thin distillate stands for nobody: what it was made from may be a candidate itself
        stand = [i for i in ranked if not self._is_thin(candidates, i)]
        same = {i: first.setdefault(candidates.texts[i], i) for i in [*stand, *ranked]}
        if self._duplicate_cosine is None:
            return [same[i] for i in range(len(ranked))]
        priority = np.empty(len(ranked), np.int64)
        standing = set(stand)
        order = [*stand, *(i for i in ranked if i not in standing)]
        priority[order] = np.arange(len(ranked))
        near = selection.near_duplicates(
            candidates.vectors, threshold=self._duplicate_cosine, priority=priority
        ).stands_for
        return [int(near[same[i]]) for i in range(len(ranked))]

    def _notes(
        self, usable: Int64s, chosen: Int64s, distilled: npt.NDArray[np.bool_], costs: Int64s, budget: int
    ) -> tuple[str, ...]:
        """What to tell the user where a side, or both, had too few rows."""
        notes = []
        unit = " tokens of" if self._in_tokens else ""
        wanted = round(budget * self._ratio)
        total = int(costs[chosen].sum())
        for name, origin, asked in (("distilled rows", True, wanted), ("originals", False, budget - wanted)):
            got = int(costs[chosen[distilled[chosen] == origin]].sum())
            everything = int(costs[usable[distilled[usable] == origin]].sum())
            if got == everything < asked:
                filled = total - got - (budget - asked)
                by = f"; the other side filled {filled}" if filled > 0 else ""
                notes.append(f"only {got} of {asked}{unit} {name} are good enough and no duplicates{by}")
        if len(chosen) == len(usable) and total < budget:
            notes.append(f"the budget was {budget} {unit.split()[0] if unit else 'rows'}, and {total} could be had")
        return tuple(notes)


def apportioned(total: int, weights: npt.NDArray[np.number[Any]]) -> Int64s:
    """``total`` split in proportion to ``weights`` (n,): whole numbers by largest remainders, the first on a tie."""
    if not len(weights) or weights.sum() <= 0:
        return np.zeros(len(weights), np.int64)
    exact = total * weights / weights.sum()
    parts: Int64s = np.floor(exact).astype(np.int64)
    most = np.argsort(-(exact - parts), kind="stable")[: total - int(parts.sum())]
    parts[most] += 1
    return parts
