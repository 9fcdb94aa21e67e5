"""Every real pool is read, and what is bad in it is known by kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from .helpers import read_all

POOLS = {
    "chatterbot_sharegpt.jsonl": ("sharegpt", 2393, {"empty-answer": 16, "empty-prompt": 16}),
    "dolly.jsonl": ("alpaca", 4000, {}),
    "flan_cot.jsonl.gz": ("alpaca", 4900, {}),
    "flan_p3.jsonl.gz": ("prompt-completion", 6771, {"empty-answer": 175}),
    "mixed_pool.jsonl.gz": ("messages", 20583, {"empty-answer": 191, "empty-prompt": 16}),
    "oasst1.jsonl": ("messages", 419, {}),
    "oasst1_other_languages.jsonl": ("messages", 100, {}),
    "small_model_answers.jsonl.gz": ("alpaca", 2100, {}),
}


@pytest.mark.data
@pytest.mark.parametrize("name", POOLS)
def test_a_real_pool(name: str, data_dir: Path) -> None:
    format_name, lines, reasons = POOLS[name]
    good, _, report = read_all(data_dir / "pools" / name)
    assert (report.lines, report.blank) == (lines, 0)
    assert report.bad == reasons
    assert report.files[0].formats == {format_name: len(good)}
    assert len({row.sample.id for row in good}) == len(good)


@pytest.mark.data
def test_answers_without_questions_are_refused_with_what_to_do(data_dir: Path) -> None:
    from lm_mixup.errors import PoolError

    with pytest.raises(PoolError, match=r"'flan-t5-small', 'flan-t5-xl', 'id'.*--columns"):
        read_all(data_dir / "pools" / "dolly_answers_by_small_models.jsonl.gz")
