"""Selection by rank, by coverage and by chance, at equal budgets, on the high rows of a finished run.

    python -m benchmarks.selection RUN [--high-share 0.25] [--budgets 200 617 2000]

``covered``: the mean, over the run's high originals, of the cosine to the nearest selected row: how well the set stands
for what it was selected from. ``covered_pool``: the same over all rows of the pool. ``rating`` and ``rare``: means of
the curated rating and of the long-tail score among the selected. ``types``: the total variation between the selected
rows' sources and task types and those of the high rows (0: the same mixture). All by exact products.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.neighbors import timed
from lm_mixup.neighbors.search import unit
from lm_mixup.pool.table import PoolTable
from lm_mixup.stages.select import ORIGINAL, Candidates, SelectStage


def nearest(rows: np.ndarray, chosen: np.ndarray) -> float:
    """The mean cosine of ``rows`` to the nearest of ``chosen``."""
    return float(np.mean([(unit(part) @ unit(chosen).T).max(axis=1).mean() for part in np.array_split(rows, 64)]))


def mixture(groups: list[str], names: list[str]) -> np.ndarray:
    return np.array([groups.count(name) for name in names]) / len(groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--high-share", type=float, default=0.0, help="the best-rated share instead of the run's high")
    parser.add_argument("--budgets", type=int, nargs="+", default=[200, 617, 2000])
    args = parser.parse_args()
    curated = pq.read_table(args.run / "curate" / "records.parquet", columns=["id", "tier", "curated_rating"])
    rating = curated["curated_rating"].to_numpy()
    high = np.flatnonzero(rating >= np.nanquantile(rating, 1 - args.high_share, method="higher"))
    if not args.high_share:
        high = np.flatnonzero(pc.equal(curated["tier"], "high").fill_null(False).to_numpy())
    pool = PoolTable(args.run / "pool" / "records.arrow")
    digests, sources, types = (pool.column(name).take(high).to_pylist() for name in ("digest", "source", "task_type"))
    everything = np.load(args.run / "embed" / "vectors.npy", mmap_mode="r", allow_pickle=False)
    groups = [f"{source} {task_type}" for source, task_type in zip(sources, types, strict=True)]
    names = sorted(set(groups))
    candidates = Candidates(
        ids=curated["id"].take(high).to_pylist(),
        origins=[ORIGINAL] * len(high),
        texts=digests,
        sources=[1] * len(high),
        ratings=curated["curated_rating"].take(high).to_numpy(),
        vectors=everything[high].astype(np.float32),
    )
    by_group = Candidates(**{**vars(candidates), "groups": groups})
    print(f"{len(everything)} rows, {len(high)} of them high, {len(names)} sources and task types")
    print("budget method                covered covered_pool  rating   rare  types  cpu s")
    for budget in args.budgets:
        ways = {
            "rank": (candidates, "rank"),
            "rank, stratified": (by_group, "rank"),
            "coverage": (candidates, "coverage"),
            "coverage, stratified": (by_group, "coverage"),
        }
        chosen = {}
        for name, (given, method) in ways.items():
            run = partial(SelectStage(ratio=0, method=method).run, given, budget)
            selection, _, seconds, _ = timed(run)
            found = selection.table
            chosen[name] = np.flatnonzero(found["selected"].to_numpy()), seconds
        rare = found["long_tail"].to_numpy()
        distinct = np.flatnonzero(pc.is_null(found["represented_by"]).to_numpy())
        chosen["by chance"] = np.random.default_rng(0).choice(distinct, min(budget, len(distinct)), replace=False), 0.0
        for name, (rows, seconds) in chosen.items():
            apart = np.abs(mixture([groups[i] for i in rows], names) - mixture(groups, names)).sum() / 2
            print(
                f"{budget:6} {name:20} {nearest(candidates.vectors, candidates.vectors[rows]):8.4f} "
                f"{nearest(everything, candidates.vectors[rows]):12.4f} {candidates.ratings[rows].mean():7.2f} "
                f"{rare[rows].mean():6.3f} {apart:6.2f} {seconds:6.1f}"
            )


if __name__ == "__main__":
    main()
