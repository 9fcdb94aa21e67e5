"""The cluster stage: low-rated rows into clusters of near rows, each of which is to be distilled into one sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup import clustering
from lm_mixup.errors import InvariantError
from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.search import Floats

Integers = npt.NDArray[np.integer[Any]]

DEFAULT_FLOOR = 0.5
"""Mean cosine (MiniLM) below which the clusters of real pools share a kind of question, but no topic."""


@dataclass(frozen=True)
class Clustered:
    """The stage's result for m rows.

    ``labels`` (m,): cluster numbers from 0 on, −1 for a row left out. ``reasons``: why, for each row; "" where placed.
    ``dropped``: how many rows were left out, by reason. ``figures``: for the manifest and the report.
    """

    labels: npt.NDArray[np.int32]
    reasons: list[str]
    dropped: Mapping[str, int]
    figures: Mapping[str, Any]


class ClusterStage:
    """Clusters within a size band. LM-Mixup § 4 (METHOD § 1.4).

    ``min_size``, ``max_size``, ``mean_size``: the band, and the mean that is aimed at. ``floor``: rows with a smaller
    mean cosine to the others of their cluster are left out, ``no-near-neighbour``; None places every row that it can.
    ``alone``: rows below the floor become clusters of one instead, to be rewritten. ``candidates`` graph neighbours of
    a row are considered, and rows may change over in ``move_rounds`` rounds.
    """

    name = "cluster"

    def __init__(
        self,
        *,
        min_size: int = 2,
        max_size: int = 5,
        mean_size: float = 3.0,
        floor: float | None = DEFAULT_FLOOR,
        alone: bool = False,
        candidates: int = 16,
        move_rounds: int = 3,
    ):
        self.min_size, self.max_size, self.mean_size = min_size, max_size, mean_size
        self.floor, self.alone = floor, alone
        self.candidates, self.move_rounds = candidates, move_rounds

    def run(
        self, vectors: Floats, graph: Graph, *, rows: Integers | None = None, groups: Integers | None = None
    ) -> Clustered:
        """Cluster ``vectors[rows]``, all by default; ``groups``, one for each of ``rows``, never mix.

        ``vectors`` (n, dim) and ``graph`` are of the whole pool: the low rows' neighbours are taken from there.
        """
        found = clustering.cluster(
            vectors,
            graph,
            rows=rows,
            groups=groups,
            min_size=self.min_size,
            max_size=self.max_size,
            mean_size=self.mean_size,
            floor=self.floor,
            candidates=self.candidates,
            move_rounds=self.move_rounds,
        )
        labels, codes = found.labels.copy(), found.reasons.copy()
        if self.alone:
            single = np.flatnonzero(codes == clustering.NO_NEAR_NEIGHBOUR)
            labels[single] = found.count + np.arange(len(single))
            codes[single] = clustering.PLACED
        counts = np.bincount(codes, minlength=len(clustering.REASONS))
        dropped = {name: int(count) for name, count in zip(clustering.REASONS, counts, strict=True) if name and count}
        if sum(dropped.values()) != int((labels < 0).sum()):
            raise InvariantError(f"cluster: {int((labels < 0).sum())} of {len(labels)} rows are out, but {dropped}")
        chosen = np.arange(len(vectors)) if rows is None else np.asarray(rows, np.int64)
        reasons = [clustering.REASONS[code] for code in codes.tolist()]
        return Clustered(labels, reasons, dropped, clustering.figures(vectors, chosen, labels.astype(np.int64)))
