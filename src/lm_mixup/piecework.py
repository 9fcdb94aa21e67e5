"""Single stages from file to file: the same stages and stores as in a run, on rows that say what they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from lm_mixup.curation import curate_jointly
from lm_mixup.pipeline import Walk
from lm_mixup.pool.ratings import Ratings
from lm_mixup.recipe import in_tokens, parse_budget
from lm_mixup.selection import long_tail, near_duplicates
from lm_mixup.stages.cluster import Clustered
from lm_mixup.stages.select import Candidates
from lm_mixup.steps import cluster_id


def cluster_all(walk: Walk) -> Clustered:
    """Cluster every row of the pool, whatever its rating."""
    walk.embed()
    walk.graph()
    return walk.steps.cluster_rows(np.arange(len(walk.steps.pool), dtype=np.int64))


def duplicates(walk: Walk, threshold: float) -> tuple[list[str | None], float]:
    """For each row of the pool the id of the first kept row that is as near, standing for it; None if it is kept.

    Also the share of the near pairs that the search finds, as measured on a sample: 1 where it is exact.
    """
    walk.embed()
    found = near_duplicates(walk.steps.vectors, threshold=threshold)
    ids = walk.steps.pool.column("id").to_pylist()
    return [None if first == row else ids[first] for row, first in enumerate(found.stands_for.tolist())], found.recall


def long_tails(walk: Walk, k: int) -> list[float]:
    """The long-tail score of each row of the pool, among the k nearest of the graph."""
    walk.embed()
    walk.graph()
    return [round(score, 4) for score in long_tail(walk.steps.graph_of_pool(), k=k).tolist()]


def curate_together(walk: Walk, given: Ratings) -> dict[str, list[Any]]:
    """Columns by name for the rows of the pool: their raters' ratings curated jointly; nulls where nobody rated.

    ``rating`` is the plain mean, ``flagged`` says that at least one rater is, and ``flagged_raters`` which.
    """
    walk.embed()
    walk.graph()
    row_of = {id_: row for row, id_ in enumerate(given.ids)}
    places = np.array([row_of.get(id_, -1) for id_ in walk.steps.pool.column("id").to_pylist()], np.int64)
    rated = np.flatnonzero(places >= 0)
    rated = rated[~np.isnan(given.values[places[rated]]).all(axis=1)]
    values = given.values[places[rated]]
    found = curate_jointly(values, walk.steps.graph_of_pool(), rows=rated)
    count = len(places)
    columns: dict[str, list[Any]] = {name: [None] * count for name in ("rating", "curated_rating", "confidence")}
    columns |= {"flagged": [False] * count, "flagged_raters": [[] for _ in range(count)]}
    means = np.nanmean(values, axis=1) if len(values) else np.empty(0)
    for at, row in enumerate(rated.tolist()):
        names = [name for name, flag in zip(given.raters, found.flagged[at].tolist(), strict=True) if flag]
        columns["rating"][row] = round(float(means[at]), 4)
        columns["curated_rating"][row] = round(float(found.curated[at]), 4)
        columns["confidence"][row] = round(float(found.confidence[at]), 4)
        columns["flagged"][row], columns["flagged_raters"][row] = bool(names), names
    return columns


def distill_labelled(walk: Walk, labels: Sequence[object]) -> Iterator[dict[str, Any]]:
    """One object a cluster, in the order of the clusters' first rows: the distillate, or why there is none.

    ``labels`` are the clusters of the pool's rows (None: in none), any JSON values. A row whose rating fails takes no
    part.
    """
    ratings = _ratings(walk)
    members: dict[str, list[int]] = {}
    named: dict[str, object] = {}
    for row, label in enumerate(labels):
        if label is not None and not np.isnan(ratings[row]):
            text = orjson.dumps(label).decode()
            members.setdefault(text, []).append(row)
            named[text] = label
    ids = walk.steps.pool.column("id").to_pylist()
    clusters = {cluster_id([ids[row] for row in rows]): rows for rows in members.values()}
    label_of = iter(members)
    batches = walk.steps.clusters_of(clusters, ratings)
    for batch in walk.steps.distill_stage().run(batches, lambda n: walk.watcher.advance("distill", n)):
        for made in batch.to_pylist():
            yield _as_row(made, named[next(label_of)])


def select_rated(walk: Walk, origins: Sequence[str]) -> dict[int, dict[str, Any]]:
    """The records of the select stage by row of the pool; rows without a rating are no candidates."""
    ratings = _ratings(walk)
    rows = np.flatnonzero(~np.isnan(ratings))
    taken = pa.array(rows)
    candidates = Candidates(
        ids=walk.steps.pool.column("id").take(taken).to_pylist(),
        origins=[origins[row] for row in rows.tolist()],
        texts=walk.steps.pool.column("digest").take(taken).to_pylist(),
        # the rows say what they are: nothing is left out for having too few sources
        sources=[walk.recipe.select.min_sources] * len(rows),
        ratings=ratings[rows],
        vectors=np.asarray(walk.steps.vectors[rows], dtype=np.float32),
        tokens=np.array(walk.steps.tokens_of_pool(rows), np.int64) if in_tokens(walk.recipe.select.budget) else None,
        groups=walk.steps.strata_of_pool(rows),
    )
    budget = parse_budget(walk.recipe.select.budget, len(ratings)) if len(ratings) else 0
    records = walk.steps.select_stage().run(candidates, budget).table.to_pylist()
    return dict(zip(rows.tolist(), records, strict=True))


def _ratings(walk: Walk) -> npt.NDArray[np.float64]:
    """(rows,) the ratings that the rows carry; rows without one are rated now; NaN where that fails."""
    carried = walk.steps.pool.column("rating")
    if carried.null_count:
        walk.embed()
        walk.rate()
        carried = walk.run.read_records("rate", ["rating"]).column("rating")
    ratings: npt.NDArray[np.float64] = carried.to_numpy(zero_copy_only=False)
    return ratings


def _as_row(made: dict[str, Any], label: object) -> dict[str, Any]:
    if made["answer"] is None:
        failure = {"distill_failure": made["reason"], "detail": made["detail"]}
        return {"id": made["id"], "cluster": label, "messages": None, "source_ids": made["source_ids"], **failure}
    return {
        "id": made["id"],
        "cluster": label,
        "origin": "distilled",
        "messages": orjson.loads(made["messages"]),
        **{
            name: made[name]
            for name in ("task_type", "language", "source", "source_ids", "used_ids", "answer", "think")
        },
    }
