"""The cluster stage: low-rated rows into clusters of near rows, each of which is to be distilled into one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lm_mixup import clustering
from lm_mixup.errors import InvariantError
from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.search import Floats

DEFAULT_FLOOR: float | None = 0.5
"""Below a mean cosine of 0.5 (MiniLM), clusters of real pools share a form of question and no topic: docs/stages."""


@dataclass(frozen=True)
class Clustered:
    """The stage's result, aligned with its rows.

    ``table``: ``id``, ``cluster`` (int64, null where left out) and ``cluster_reason`` (string, null where placed).
    ``dropped``: how many rows were left out, by reason. ``figures``: what the manifest and the report say about it.
    """

    table: pa.Table
    dropped: Mapping[str, int]
    figures: Mapping[str, Any]


class ClusterStage:
    """Clusters within a size band. LM-Mixup § 4 (METHOD § 1.4).

    ``min_size``, ``max_size``, ``mean_size``: the band, and the mean that is aimed at. ``floor``: rows with a smaller
    mean cosine to the others of their cluster are left out, ``no-near-neighbour``; None places every row that it can.
    ``alone``: rows below the floor become clusters of one, for rewriting, instead. ``within``: columns that do not mix
    in a cluster. ``candidates`` and ``move_rounds`` as in :func:`lm_mixup.clustering.cluster`.
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
        within: Sequence[str] = ("source", "task_type", "language"),
        candidates: int = 16,
        move_rounds: int = 3,
    ):
        self.min_size, self.max_size, self.mean_size = min_size, max_size, mean_size
        self.floor, self.alone, self.within = floor, alone, tuple(within)
        self.candidates, self.move_rounds = candidates, move_rounds

    def run(self, table: pa.Table, rows: npt.NDArray[np.integer[Any]], vectors: Floats, graph: Graph) -> Clustered:
        """Cluster ``table`` (m rows; ``id`` and the columns of ``within``).

        ``rows`` (m,) are the rows' numbers in ``vectors`` (n, dim) and in ``graph``, which are of the whole pool.
        """
        found = clustering.cluster(
            vectors,
            graph,
            rows=rows,
            groups=group_numbers(table, self.within),
            min_size=self.min_size,
            max_size=self.max_size,
            mean_size=self.mean_size,
            floor=self.floor,
            candidates=self.candidates,
            move_rounds=self.move_rounds,
        )
        labels, reasons = found.labels.astype(np.int64), found.reasons.copy()
        if self.alone:
            single = np.flatnonzero(reasons == clustering.NO_NEAR_NEIGHBOUR)
            labels[single] = found.count + np.arange(len(single))
            reasons[single] = clustering.PLACED
        out = labels < 0
        names = np.array(clustering.REASONS, dtype=object)
        counts = np.bincount(reasons, minlength=len(clustering.REASONS))
        dropped = {name: int(count) for name, count in zip(clustering.REASONS, counts, strict=True) if name and count}
        if sum(dropped.values()) != int(out.sum()) or len(labels) != len(table):
            raise InvariantError(f"cluster: {len(table)} rows in, {int((~out).sum())} placed, {dropped} left out")
        result = pa.table(
            {
                "id": table["id"],
                "cluster": pa.array(labels, mask=out),
                "cluster_reason": pa.array(names[reasons], pa.string(), mask=~out),
            }
        )
        return Clustered(result, MappingProxyType(dropped), clustering.figures(vectors, rows, labels))


def group_numbers(table: pa.Table, columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """(m,) A number for each row, equal where all ``columns`` are; the numbers mean nothing else."""
    numbers = np.zeros(len(table), np.int64)
    for column in columns:
        codes = pc.dictionary_encode(table[column].combine_chunks(), null_encoding="encode")
        codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
        index = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        numbers = np.unique(numbers * (int(index.max(initial=0)) + 1) + index, return_inverse=True)[1].astype(np.int64)
    return numbers
