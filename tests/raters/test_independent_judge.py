"""The reward's rater and its judge: other raters' ratings, other rows, other weights; what the cards say of both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.reward_judge import HEADS, parted

from lm_mixup.pool import PoolRow, read
from lm_mixup.raters.learned import JUDGE, REWARD, Weights, independent_judge, reward_rater
from lm_mixup.records import Rating
from tests.raters.test_learned import NILE, NamedEmbedder, sample


def card(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return told["card"]


def test_each_imitates_its_own_rater_and_no_other() -> None:
    assert set(Weights.load(JUDGE).heads) == {HEADS["judge"]} == {"gpt-4o-mini"}
    assert set(Weights.load(REWARD).heads) == {HEADS["reward"]} == {"llama+mistral"}
    judge, reward = independent_judge(NamedEmbedder()), reward_rater(NamedEmbedder())
    assert judge.key != reward.key
    rows = [sample(NILE), sample("No idea.")]
    for rater in (judge, reward):
        good, poor = rater.rate(rows)
        assert isinstance(good, Rating)
        assert isinstance(poor, Rating)
        assert good.value > poor.value + 1


def test_the_cards_name_disjoint_rows_and_the_figures_on_what_neither_saw() -> None:
    ours, theirs = card(JUDGE), card(REWARD)
    assert ours["rows_sha256"] == theirs["rows_sha256"]
    assert len(set(ours["rows_sha256"].values())) == 3
    figures = ours["results"]["held_out"]
    assert figures["judge, gpt-4o-mini"][1] > figures["length, gpt-4o-mini"][2]  # beyond length, interval and all
    assert figures["judge, reward"][2] < 0.75
    assert JUDGE.stat().st_size + REWARD.stat().st_size < 64_000


@pytest.mark.slow
@pytest.mark.data
def test_no_row_and_no_prompt_stands_in_two_parts(data_dir: Path) -> None:
    samples = [row.sample for row in read([str(data_dir / "pools" / "dolly.jsonl")]) if isinstance(row, PoolRow)]
    parts = parted(samples)
    prompts = [{samples[i].prompt.casefold() for i in rows} for rows in parts.values()]
    assert sum(map(len, prompts)) == len(set().union(*prompts))
    assert sum(map(len, parts.values())) == len(samples)
    told = {
        name: hashlib.sha256("\n".join(samples[i].id for i in rows).encode()).hexdigest()
        for name, rows in parts.items()
    }
    assert told == card(JUDGE)["rows_sha256"]
