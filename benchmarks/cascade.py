"""The cascade's curves: F1 on *high* against the share judged, replayed from the ratings of three real judges.

    python -m benchmarks.cascade            # tables, from LM_MIXUP_DATA (default ../shared/data)
    python -m benchmarks.cascade --json     # one JSON object at the end

4,000 Dolly rows, each judge by itself: rows above the high line (class ≥ 4) are to be found. Ways to spend the same
number of questions, and judging all (F1 = 1 by definition). No shipped head takes part, for those were trained on
these ratings.

- ``cascade``: :func:`lm_mixup.raters.cascade.learn`, started from a learned rater of the *other two* judges' mean,
  cross-fitted: no row's start has seen that row, and no start has seen the judge.
- ``cascade bare``: the same, started from nothing.
- ``random``, ``longest``: so many rows by chance, or the longest answers; what they teach rates the rest, by the
  cascade's own last step.
- ``random alone``, ``longest alone``: the rest is called not high.

Means over seeds. Intervals are 95 % percentile bootstraps over rows and seeds together; differences are of the same
rows and seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learned_rater import RATERS, load_rated
from lm_mixup.collaborators import Edge, make_embedder
from lm_mixup.embed.cached import CachedEmbedder, vector_schema
from lm_mixup.raters.cascade import Floats, Ints, Learned, Plan, learn
from lm_mixup.raters.features import FEATURES, matrix
from lm_mixup.raters.training import fit_head, folds_of
from lm_mixup.recipe import Recipe
from lm_mixup.store import Store

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
WAYS = ("cascade", "cascade bare", "random", "longest", "random alone", "longest alone")
HIGH = 3.5
RESAMPLES = 1000
TARGET_SHARE = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rater", action="append", choices=RATERS, help="only this judge; repeatable")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors between calls")
    args = parser.parse_args()
    data = Path(os.environ.get("LM_MIXUP_DATA", "../shared/data"))
    samples, ratings = load_rated(data)
    vectors = embed([s.text for s in samples], args.cache)
    features = matrix(samples)
    begin = time.process_time()
    results: dict[str, Any] = {"rows": len(samples), "seeds": args.seeds, "shares": list(SHARES), "judges": {}}
    for rater in args.rater or RATERS:
        others = np.mean([ratings[other] for other in RATERS if other != rater], axis=0)
        start = cross_fitted(vectors, features, others)
        results["judges"][rater] = curves(vectors, features, ratings[rater], start, args.seeds)
        show(rater, results["judges"][rater])
    results["cpu_seconds"] = round(time.process_time() - begin, 1)
    if args.json:
        print(json.dumps(results))


def embed(texts: list[str], cache: Path | None) -> Floats:
    inner = make_embedder(Recipe(), Edge.of(os.environ))
    if cache is None:
        return inner.embed(texts).astype(np.float64)
    return (
        CachedEmbedder(inner, Store(cache, vector_schema(inner.dim)), chunk_texts=512).embed(texts).astype(np.float64)
    )


def curves(vectors: Floats, features: Floats, said: Floats, start: Floats, seeds: int) -> dict[str, Any]:
    """For each way and share: F1 with its interval, recall, precision, seconds; and the differences at 20 %."""
    high = said >= HIGH
    calls = {
        (way, share): np.stack([called(way, share, vectors, features, said, start, s) for s in range(seeds)])
        for way in WAYS
        for share in SHARES
    }
    drawn = np.random.default_rng(0)
    rows = drawn.integers(len(said), size=(RESAMPLES, len(said)))
    seed_of = drawn.integers(seeds, size=(RESAMPLES, seeds))
    boot = {key: bootstrap(found, high, rows, seed_of) for key, found in calls.items()}
    points = {
        way: [
            {
                "share": share,
                "f1": round(float(np.mean([f1(c, high) for c in calls[way, share]])), 4),
                "interval": interval(boot[way, share]),
                "recall": round(float((calls[way, share] & high).sum() / (seeds * high.sum())), 4),
                "precision": round(float((calls[way, share] & high).sum() / max(1, calls[way, share].sum())), 4),
            }
            for share in SHARES
        ]
        for way in WAYS
    }
    at = {way: next(p["f1"] for p in points[way] if p["share"] == TARGET_SHARE) for way in WAYS}
    ahead = {
        way: {
            "difference": round(at["cascade"] - at[way], 4),
            "interval": interval(boot["cascade", TARGET_SHARE] - boot[way, TARGET_SHARE]),
        }
        for way in WAYS[1:]
    }
    return {"high_share": round(float(high.mean()), 4), "curves": points, "ahead_at_20_percent": ahead}


def called(
    way: str, share: float, vectors: Floats, features: Floats, said: Floats, start: Floats, seed: int
) -> np.ndarray:
    """(n,) whether each row is called high."""
    rows, high = len(said), said >= HIGH
    budget = round(share * rows)
    if way.startswith("cascade"):
        begin = start if way == "cascade" else None
        learned = learn(vectors, features, lambda asked: said[asked], plan=Plan(share=share, seed=seed), start=begin)
        assert len(learned.rows) == budget
        return learned.ratings >= HIGH
    lengths = features[:, list(FEATURES).index("completion_words")]
    order = np.random.default_rng(seed).permutation(rows)
    if way.startswith("longest"):
        order = order[np.argsort(-lengths[order], kind="stable")]  # equal lengths in the seed's order
    if way.endswith("alone"):
        found = np.zeros(rows, dtype=bool)
        found[order[:budget]] = high[order[:budget]]
        return found
    return only(order[:budget], vectors, features, said, seed).ratings >= HIGH


def cross_fitted(vectors: Floats, features: Floats, ratings: Floats) -> Floats:
    """(n,) what a learned rater says of each row that was trained on the four fifths without it."""
    fold = folds_of(len(ratings), 5, 0)
    out = np.empty(len(ratings))
    for this in range(5):
        inside = fold != this
        head = fit_head(vectors[inside], features[inside], ratings[inside])
        out[~inside] = [head.merit(vectors[i], features[i]) for i in np.flatnonzero(~inside)]
    return out


def only(chosen: Ints, vectors: Floats, features: Floats, said: Floats, seed: int) -> Learned:
    """The cascade's learning and last step, on rows that somebody else chose."""
    return learn(vectors, features, lambda asked: said[asked], plan=Plan(seed=seed), chosen=chosen)


def f1(found: np.ndarray, high: np.ndarray) -> float:
    return float(2 * (found & high).sum() / max(1, found.sum() + high.sum()))


def bootstrap(calls: np.ndarray, high: np.ndarray, rows: np.ndarray, seed_of: np.ndarray) -> Floats:
    """(resamples,) mean F1 over resampled rows and seeds."""
    out = np.empty(len(rows))
    for i, (r, s) in enumerate(zip(rows, seed_of, strict=True)):
        weight = np.bincount(r, minlength=calls.shape[1])
        hits, found, there = (calls & high) @ weight, calls @ weight, high @ weight
        out[i] = (2 * hits / np.maximum(1, found + there))[s].mean()
    return out


def interval(values: Floats) -> list[float]:
    return [round(float(v), 4) for v in np.quantile(values, [0.025, 0.975])]


def show(rater: str, told: dict[str, Any]) -> None:
    print(f"\n{rater} ({told['high_share']:.1%} high): F1 on high by the share judged\n")
    print(f"{'':16}" + "".join(f"{share:>9.0%}" for share in SHARES))
    for way in WAYS:
        print(f"{way:16}" + "".join(f"{point['f1']:9.3f}" for point in told["curves"][way]))
    for way, gap in told["ahead_at_20_percent"].items():
        low, up = gap["interval"]
        print(f"at 20 %, cascade − {way}: {gap['difference']:+.3f} [{low:+.3f}, {up:+.3f}]")


if __name__ == "__main__":
    main()
