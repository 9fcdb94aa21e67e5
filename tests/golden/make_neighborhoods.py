"""Writes the golden rows, clusters and curation anew: ``python -m tests.golden.make_neighborhoods`` in the root.

Run it only where a change of the numbers is meant, and say in the commit why they changed.
"""

import json
from pathlib import Path

import numpy as np

from lm_mixup.clustering import cluster
from lm_mixup.curation import curate
from lm_mixup.neighbors import build
from tests.neighborhoods import clustered

HERE = Path(__file__).parent
SETTINGS = {
    "pool": {"min_size": 2, "max_size": 5, "mean_size": 3.0},
    "pool with a floor": {"min_size": 2, "max_size": 5, "mean_size": 3.0, "floor": 0.7},
    "wide": {"min_size": 2, "max_size": 25, "mean_size": 10.0},
}


def main() -> None:
    vectors, centre = clustered(300, dim=32, per=12, noise=0.5, seed=11)
    rng = np.random.default_rng(12)
    ratings = rng.integers(0, 6, centre.max() + 1)[centre].astype(float)
    anew = rng.permutation(300)[:60]
    ratings[anew] = rng.integers(0, 6, 60)
    np.save(HERE / "neighborhood_rows.npy", vectors, allow_pickle=False)
    labels = {name: cluster(vectors, build(vectors, 16), **one).labels.tolist() for name, one in SETTINGS.items()}
    _write("clusters.json", {"settings": SETTINGS, "labels": labels})
    found = curate(ratings, build(vectors, 24))
    _write(
        "curation.json",
        {
            "ratings": ratings.tolist(),
            "transition": np.round(found.transition, 5).tolist(),
            "prior": np.round(found.prior, 5).tolist(),
            "flagged": np.flatnonzero(found.flagged).tolist(),
            "replaced": np.flatnonzero(found.replaced).tolist(),
        },
    )


def _write(name: str, value: object) -> None:
    (HERE / name).write_text(json.dumps(value) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
