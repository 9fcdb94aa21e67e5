"""The curate stage: ratings that near rows contradict are flagged, and replaced where the neighbours are sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup import curation
from lm_mixup.curation import Curation
from lm_mixup.neighbors import Graph


class CurateStage:
    """Score curation after DS2 (METHOD § 1.2).

    ``neighbors``: k of the vote, the row itself and k − 1 others; ``rounds`` of the bootstrap, each over a share
    ``sample`` of the rows; ``min_confidence`` from which on a flagged rating is replaced; ``most_wrong``: the estimated
    share of wrong ratings above which none is flagged (1: flag regardless); ``seed`` of the draws.
    """

    name = "curate"

    def __init__(
        self,
        *,
        neighbors: int = 10,
        rounds: int = 51,
        sample: float = 0.9,
        min_confidence: float = 0.5,
        most_wrong: float = 0.5,
        seed: int = 0,
    ):
        self.neighbors, self.rounds, self.sample = neighbors, rounds, sample
        self.min_confidence, self.most_wrong, self.seed = min_confidence, most_wrong, seed

    def run(
        self,
        ratings: npt.NDArray[np.floating[Any]],
        graph: Graph,
        rows: npt.NDArray[np.integer[Any]] | None = None,
    ) -> Curation:
        """Curate ``ratings`` (m,) of the rows with these numbers in ``graph``: all of its rows by default.

        A failed rating is no number: leave its row out of ``rows``; it then has no vote either. The result is aligned
        with ``ratings``; every row is kept.
        """
        return curation.curate(
            ratings,
            graph,
            rows=rows,
            k=self.neighbors,
            rounds=self.rounds,
            sample=self.sample,
            replace_at=self.min_confidence,
            most_wrong=self.most_wrong,
            seed=self.seed,
        )
