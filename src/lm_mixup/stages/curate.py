"""The curate stage: ratings that near rows contradict are flagged, and replaced where the neighbours are sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lm_mixup import curation
from lm_mixup.neighbors import Graph


@dataclass(frozen=True)
class Curated:
    """The stage's result, aligned with its rows.

    ``table``: ``id``, ``rating`` as given, ``curated_rating`` (float64), ``flagged`` (bool), ``confidence`` (float32).
    ``figures``: T, p, counts and the note, for the manifest and the report.
    """

    table: pa.Table
    figures: Mapping[str, Any]


class CurateStage:
    """Score curation after DS2 (METHOD § 1.2). Settings as in :func:`lm_mixup.curation.curate`."""

    name = "curate"

    def __init__(
        self,
        *,
        k: int = 10,
        rounds: int = 51,
        sample: float = 0.9,
        replace_at: float = curation.REPLACE_AT,
        seed: int = 0,
    ):
        self.k, self.rounds, self.sample, self.replace_at, self.seed = k, rounds, sample, replace_at, seed

    def run(self, table: pa.Table, rows: npt.NDArray[np.integer[Any]], graph: Graph) -> Curated:
        """Curate the ratings of ``table`` (m rows; ``id``, ``rating`` without nulls: a failed rating is no number).

        ``rows`` (m,) are the rows' numbers in ``graph``, which is of the whole pool.
        """
        ratings = table["rating"].combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
        found = curation.curate(
            ratings,
            graph,
            rows=rows,
            k=self.k,
            rounds=self.rounds,
            sample=self.sample,
            replace_at=self.replace_at,
            seed=self.seed,
        )
        result = pa.table(
            {
                "id": table["id"],
                "rating": pa.array(ratings),
                "curated_rating": pa.array(found.curated),
                "flagged": pa.array(found.flagged),
                "confidence": pa.array(found.confidence),
            }
        )
        figures = {
            "classes": found.classes.tolist(),
            "transition": np.round(found.transition, 4).tolist(),
            "prior": np.round(found.prior, 4).tolist(),
            "flagged": int(found.flagged.sum()),
            "replaced": int((found.curated != ratings).sum()),
            "note": found.note,
        }
        return Curated(result, figures)
