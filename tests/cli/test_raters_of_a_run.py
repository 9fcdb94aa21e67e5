"""A run may rate with weights or a library of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_commands import jsonl, lm_mixup, read, rows


def test_knn_bayes_needs_a_library_and_says_how_to_build_one(tmp_path: Path):
    pool = jsonl(tmp_path / "pool.jsonl", rows())
    err = lm_mixup("run", pool, "-o", tmp_path / "run", "--set", "rate.rater=knn-bayes", code=2).stderr
    assert "lm-mixup library build" in err


def test_a_run_rates_by_neighbours_in_a_library(tmp_path: Path):
    library = tmp_path / "library"
    stars = jsonl(tmp_path / "stars.jsonl", [{"id": row["id"], "stars": row["mark"] + 1} for row in rows()])
    pool = jsonl(tmp_path / "pool.jsonl", rows())
    lm_mixup("library", "build", pool, "-o", library, "--ratings", stars, "--neighbors", 5)
    settings = ("--set", "rate.rater=knn-bayes", "--set", f"rate.library={library}", "--set", "curate.high_share=0.2")
    done = lm_mixup("run", pool, "-o", tmp_path / "run", "--json", *settings)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["stages"]["rate"]["kept"] == len(rows())
    versions = read(tmp_path / "run" / "lineage.jsonl")[0]["versions"]
    assert "knn-bayes" in versions["rater"]
