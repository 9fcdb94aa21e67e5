"""A run may rate with weights or a library of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_mixup.collaborators import Edge, assemble
from lm_mixup.errors import InputError
from lm_mixup.raters.cascade_rater import Cascade
from lm_mixup.recipe import load
from lm_mixup.run_folder import Run
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


class LikeMiniLM:
    key, dim = "minilm-9bfffa1d-f32-w256x4-v1", 384

    def embed(self, texts):
        raise AssertionError("nobody asked for vectors")


def test_a_cascade_starts_from_the_learned_rater_where_that_knows_the_embedder(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text("{}")
    settings = ["rate.rater=cascade", "rate.judge_share=0.1", f"llm.model=scripted:{script}", "seed=3"]
    recipe = load(None, settings)
    with Run(tmp_path / "run") as run:
        known = assemble(recipe, run, Edge(), embedder=LikeMiniLM()).rater
        unknown = assemble(load(None, [*settings, "embed.model=hashing"]), run, Edge()).rater
        assert isinstance(known, Cascade)
        assert isinstance(unknown, Cascade)
        assert known.start is not None
        assert "gpt-4o-mini" in known.start.key
        assert unknown.start is None
        assert (known.plan.share, known.plan.seed, known.plan.rounds) == (0.1, 3, 16)
        with pytest.raises(InputError, match="no head 'nobody'"):
            assemble(load(None, [*settings, "rate.head=nobody"]), run, Edge(), embedder=LikeMiniLM())
        batch = load(None, [*settings[:2], "llm.model=openai-batch:m@http://localhost:1/v1"])
        by_batch = assemble(batch, run, Edge(), embedder=LikeMiniLM()).rater
        assert by_batch.plan.rounds == 2  # each may take a day
        endpoint = load(None, [*settings[:2], "llm.model=openai:m@http://localhost:1/v1", "llm.concurrency=200"])
        quick = assemble(endpoint, run, Edge(), embedder=LikeMiniLM()).rater
        assert (quick.plan.rounds, quick.judge.at_once) == (16, 3200)
