"""Select: order the candidates, leave out near-duplicates, and take the budget in the ratio asked for.

METHOD § 1, steps 7 and 8: by rating, then by long-tail score, both descending [D]; a share of distilled rows [P].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lm_mixup import selection
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
"""One row a candidate; not selected: ``reason`` is ``near-duplicate`` (of ``represented_by``) or ``over-budget``."""

DISTILLED, ORIGINAL = "distilled", "original"


@dataclass(frozen=True)
class Candidates:
    """What may go into the train set. Aligned: ids, origins, texts, ratings (0–5) and unit vectors (n, dim).

    ``texts`` are content hashes: equal hashes are the same text.
    """

    ids: list[str]
    origins: list[str]
    texts: list[str]
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
        seed: int = 0,
    ) -> None:
        self._ratio = ratio
        self._neighbors = neighbors
        self._order = order
        self._duplicate_cosine = duplicate_cosine
        self._seed = seed

    def run(self, candidates: Candidates, budget_rows: int) -> Selection:
        """Deterministic: ties end with the id."""
        count = len(candidates.ids)
        long_tail = selection.long_tail(candidates.vectors, k=self._neighbors, seed=self._seed)
        ranked = self._rank(candidates, long_tail)
        stands_for = self._representatives(candidates, ranked)
        unique = [i for i in ranked if stands_for[i] == i]
        distilled = [i for i in unique if candidates.origins[i] == DISTILLED]
        originals = [i for i in unique if candidates.origins[i] != DISTILLED]
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
                "reason": None if i in chosen else "over-budget" if stands_for[i] == i else "near-duplicate",
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

    def _rank(self, candidates: Candidates, long_tail: npt.NDArray[np.float64]) -> list[int]:
        def best_first(i: int) -> tuple[float, float, float, str]:
            rating, rare = float(candidates.ratings[i]), float(long_tail[i])
            if self._order == "class":
                return (-rating_class(rating), -rare, -rating, candidates.ids[i])
            return (-rating, -rare, 0.0, candidates.ids[i])

        return sorted(range(len(candidates.ids)), key=best_first)

    def _representatives(self, candidates: Candidates, ranked: list[int]) -> list[int]:
        """For every candidate the one that stands for it: itself, or a better one with (nearly) the same text."""
        stands_for = list(range(len(candidates.ids)))
        first: dict[str, int] = {}
        for i in ranked:
            stands_for[i] = first.setdefault(candidates.texts[i], i)
        if self._duplicate_cosine is None:
            return stands_for
        unique = [i for i in ranked if stands_for[i] == i]
        among = selection.near_duplicates(candidates.vectors[unique], threshold=self._duplicate_cosine)
        merged = {i: unique[int(representative)] for i, representative in zip(unique, among, strict=True)}
        return [merged[i] for i in stands_for]


def _notes(budget: int, wanted: int, distilled: int, originals: int) -> tuple[str, ...]:
    taken, wanted_originals = distilled + originals, budget - wanted
    notes = []
    if distilled < wanted <= budget and originals > wanted_originals:
        notes.append(
            f"only {distilled} of {wanted} distilled rows could be had; originals filled {originals - wanted_originals}"
        )
    if originals < wanted_originals and distilled > wanted:
        notes.append(
            f"only {originals} of {wanted_originals} originals could be had; distilled rows filled {distilled - wanted}"
        )
    if taken < budget:
        notes.append(f"the budget was {budget} rows, but only {taken} candidates are good enough and no duplicates")
    return tuple(notes)
