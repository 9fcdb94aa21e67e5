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

from lm_mixup.clustering.merging import OFFERS, Build, Pairs, by_group, gain_of
from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.search import Float32s, Floats, Int32s, Int64s, search_exact, unit

Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]
Integers = npt.NDArray[np.integer[Any]]

PLACED, TOO_FEW_ROWS, NO_NEAR_NEIGHBOUR = 0, 1, 2
REASONS = ("", "too-few-rows", "no-near-neighbour")
"""Why a row is in no cluster, by code."""


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

    build = Build(unit(vectors[chosen]), group, min_size, max_size, floor)
    edges = _edges(graph, chosen, group, len(vectors), candidates, build.rows, np.flatnonzero(reasons == PLACED))
    if floor is not None:
        near = np.zeros(n, np.bool_)
        near[edges.keep(edges.gain >= gain_of(floor)).ends()] = True
        reasons[(reasons == PLACED) & ~near] = NO_NEAR_NEIGHBOUR
    build.leave_out(np.flatnonzero(reasons != PLACED))
    size_of_group = np.bincount(group[reasons == PLACED], minlength=build.groups)
    wanted = np.rint(size_of_group / mean_size).astype(np.int64)

    build.merge(edges, wanted)
    build.complete(edges)
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


def _edges(
    graph: Graph, chosen: Int64s, group: Int64s, total: int, candidates: int, rows: Float32s, placed: Int64s
) -> Pairs:
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
    for query, base in by_group(lonely, placed, group):
        k = min(OFFERS, len(base) - 1)
        found, values = search_exact(rows[query], rows[base], k, own=np.searchsorted(base, query))
        a = np.concatenate([a, np.repeat(query, k)])
        b = np.concatenate([b, base[found].ravel()])
        cosine = np.concatenate([cosine, values.ravel().astype(np.float32)])
    keys, first = np.unique(np.minimum(a, b) * n + np.maximum(a, b), return_index=True)
    return Pairs(keys // max(n, 1), keys % max(n, 1), np.sqrt(np.maximum(2 + 2 * cosine[first], 0)) - 2)


def figures(vectors: Floats, rows: Integers, labels: Int64s) -> dict[str, Any]:
    """What a report says of clusters; ``labels`` (m,) are aligned with ``rows``, negative ones are rows left out.

    ``cosine_to_mean``: mean over rows of the cosine to their cluster's mean. ``pairwise_cosine``: mean over all pairs
    of rows that share a cluster (large clusters weigh most). ``pairwise_cosine_by_row``: the mean cosine of a row to
    the others of its cluster, in the mean over rows. ``pairwise_cosine_by_cluster``: each cluster's own mean over its
    pairs, in the mean over clusters (many tiny clusters weigh most), and ``…_tenth_percentile`` of the same.
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
        by_row = (cosines / (sizes[several] - 1)).sum() / sizes[several].sum()
        out["pairwise_cosine_by_row"] = round(float(by_row), 4)
        out["pairwise_cosine_by_cluster"] = round(float((cosines / pairs).mean()), 4)
        out["pairwise_cosine_tenth_percentile"] = round(float(np.quantile(cosines / pairs, 0.1)), 4)
    return out
