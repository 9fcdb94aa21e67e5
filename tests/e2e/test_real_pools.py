"""Every real pool walks through, and its counts add up: in = kept + dropped with a reason + failed, at every stage."""

from __future__ import annotations

from pathlib import Path

import pytest

import lm_mixup
from lm_mixup.errors import PoolError
from tests.e2e.test_walk import Hands, assert_adds_up

POOLS = [
    "chatterbot_sharegpt.jsonl",
    "dirty.jsonl",
    "dolly.jsonl",
    "flan_cot.jsonl.gz",
    "flan_p3.jsonl.gz",
    "mixed_pool.jsonl.gz",
    "oasst1.jsonl",
    "oasst1_other_languages.jsonl",
    "small_model_answers.jsonl.gz",
]
NO_POOL = "dolly_answers_by_small_models.jsonl.gz"
"""Two answers a row and no question: the file goes with dolly.jsonl and is no pool by itself."""


def non_blank_lines(path: Path) -> int:
    import gzip

    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as handle:
        return sum(bool(line.strip()) for line in handle.read().split(b"\n"))


@pytest.mark.data
@pytest.mark.parametrize("name", POOLS)
def test_a_real_pool_adds_up(name: str, data_dir: Path, tmp_path: Path):
    pool = data_dir / "pools" / name
    # its answers have a word or two: by length, none is good in itself
    share = ["curate.high_share=0.1"] if name.startswith("flan_cot") else []
    result: lm_mixup.Result = Hands().run(pool, tmp_path / "run", "pool.detect_language=false", *share)
    assert_adds_up(result.summary)
    rows = result.summary["rows"]
    assert rows["in"] == non_blank_lines(pool)
    quarantined = (tmp_path / "run" / "quarantine.jsonl").read_bytes().count(b"\n")
    assert quarantined == rows["quarantined"]
    lineage = list(result.lineage())
    assert len(lineage) == rows["train"] > 0
    assert all(story["source_ids"] and story["sources"] for story in lineage)


@pytest.mark.data
def test_a_file_that_is_no_pool_is_refused_with_its_fields(data_dir: Path, tmp_path: Path):
    with pytest.raises(PoolError, match="flan-t5-small"):
        Hands().run(data_dir / "pools" / NO_POOL, tmp_path / "run")


@pytest.mark.data
def test_the_list_above_is_complete(data_dir: Path):
    assert sorted(p.name for p in (data_dir / "pools").iterdir()) == sorted([*POOLS, NO_POOL])


@pytest.mark.data
def test_several_pools_at_once_keep_their_sources(data_dir: Path, tmp_path: Path):
    pools = [data_dir / "pools" / name for name in ("oasst1.jsonl", "dirty.jsonl")]
    result = Hands().run(pools, tmp_path / "run", "pool.detect_language=false", "select.budget=1000000")
    assert_adds_up(result.summary)
    named = {source["source"] for story in result.lineage() for source in story["sources"]}
    assert named <= {"oasst1", "dirty"}
    assert "oasst1" in named
