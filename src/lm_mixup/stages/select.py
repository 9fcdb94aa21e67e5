"""Select: order the candidates, leave out near-duplicates, and take the budget in the ratio asked for.

METHOD § 1, steps 7 and 8: by rating, then by long-tail score, both descending [D]; a share of distilled rows [P].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lm_mixup import neighbors, selection
from lm_mixup.records import rating_class

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


@dataclass(frozen=True)
class Candidates:
    """What may go into the train set. Aligned: ids, origins, texts, ratings (0–5) and unit vectors (n, dim).

    ``texts`` are content hashes: equal hashes are the same text. ``sources``: how many rows of the pool each was made
    from (1 for an original).
    """

    ids: list[str]
    origins: list[str]
    texts: list[str]
    sources: list[int]
    ratings: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Selection:
    """The records of every candidate, in the order given, and what to tell the user."""

    table: pa.Table
    notes: tuple[str, ...] = ()
    figures: dict[str, int | float] = field(default_factory=dict)


class SelectStage:
    """Takes ``budget_rows`` candidates, ``ratio`` of them distilled; one side fills what the other lacks."""

    def __init__(
        self,
        *,
        ratio: float = 0.5,
        neighbors: int = 15,
        order: Literal["class", "rating"] = "class",
        duplicate_cosine: float | None = 0.98,
        min_sources: int = 2,
        seed: int = 0,
    ) -> None:
        self._ratio = ratio
        self._neighbors = neighbors
        self._order = order
        self._duplicate_cosine = duplicate_cosine
        self._min_sources = min_sources
        self._seed = seed

    def run(self, candidates: Candidates, budget_rows: int) -> Selection:
        """Deterministic: ties end with the id."""
        count = len(candidates.ids)
        graph = neighbors.build(candidates.vectors, self._neighbors, seed=self._seed)
        long_tail = selection.long_tail(graph, k=self._neighbors)
        ranked = self._rank(candidates, long_tail)
        stands_for = self._representatives(candidates, ranked)
        thin = {i for i in range(count) if self._is_thin(candidates, i)}
        usable = [i for i in ranked if stands_for[i] == i and i not in thin]
        distilled = [i for i in usable if candidates.origins[i] == DISTILLED]
        originals = [i for i in usable if candidates.origins[i] != DISTILLED]
        wanted = round(budget_rows * self._ratio)
        from_distilled = min(len(distilled), max(wanted, budget_rows - len(originals)))
        from_originals = min(len(originals), budget_rows - from_distilled)
        chosen = {*distilled[:from_distilled], *originals[:from_originals]}
        rows = [
            {
                "id": candidates.ids[i],
                "origin": candidates.origins[i],
                "rating": float(candidates.ratings[i]),
                "long_tail": float(long_tail[i]),
                "selected": i in chosen,
                "reason": self._reason(i in chosen, i in thin, stands_for[i] == i),
                "represented_by": None if stands_for[i] == i else candidates.ids[stands_for[i]],
            }
            for i in range(count)
        ]
        figures: dict[str, int | float] = {
            "budget": budget_rows,
            "distilled": from_distilled,
            "original": from_originals,
            "candidates_distilled": len(distilled),
            "candidates_original": len(originals),
        }
        notes = _notes(budget_rows, wanted, from_distilled, from_originals)
        return Selection(pa.Table.from_pylist(rows, schema=SCHEMA), notes, figures)

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


def _notes(budget: int, wanted: int, distilled: int, originals: int) -> tuple[str, ...]:
    """What to tell the user where a side, or both, had too few rows."""
    notes = []
    sides = (("distilled rows", distilled, wanted, originals), ("originals", originals, budget - wanted, distilled))
    for name, got, asked, other in sides:
        if got < asked:
            filled = other - (budget - asked)
            by = f"; the other side filled {filled}" if filled > 0 else ""
            notes.append(f"only {got} of {asked} {name} are good enough and no duplicates{by}")
    if distilled + originals < budget:
        notes.append(f"the budget was {budget} rows, and {distilled + originals} could be had")
    return tuple(notes)
