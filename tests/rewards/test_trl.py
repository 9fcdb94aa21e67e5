"""The adapter: TRL's calls as TRL makes them, its two shapes of completions, its logging hooks, clear complaints."""

from __future__ import annotations

from typing import Any

import pytest

from lm_mixup.errors import InputError
from lm_mixup.rewards import Scorer, TRLReward, Weights, trl_reward
from lm_mixup.rewards.trl import text_of
from tests.rewards.material import REFERENCE, VARIANTS, Counting, library, rollout

TEXTS = [rollout().text, "<think></think><answer>cut off"]


def columns(count: int, **changed: Any) -> dict[str, Any]:
    """What TRL 1.16 passes beside the completions."""
    return {
        "prompts": [[{"role": "user", "content": "Merge."}]] * count,
        "completion_ids": [[1, 2]] * count,
        "task_type": ["qa"] * count,
        "reference": [REFERENCE] * count,
        "variants": [list(VARIANTS)] * count,
        "trainer_state": None,
        **changed,
    }


@pytest.fixture
def reward() -> TRLReward:
    return trl_reward(Scorer(Counting(), library()))


def test_texts_and_turns_are_worth_the_same(reward: TRLReward) -> None:
    plain = reward(completions=TEXTS, **columns(2))
    turns = reward(completions=[[{"role": "assistant", "content": text}] for text in TEXTS], **columns(2))
    assert plain == turns
    assert plain[0] is not None
    assert plain[0] > plain[1] == 0.0
    assert reward.__name__ == "lm_mixup"
    assert reward.calls == 2


def test_what_cannot_be_scored_is_none(reward: TRLReward) -> None:
    assert reward(completions=TEXTS, **columns(2, task_type=["para", "para"])) == [None, 0.0]


def test_the_last_calls_results_and_what_trl_logs(reward: TRLReward) -> None:
    metrics: dict[str, float] = {}
    extra: dict[str, list[Any]] = {}
    reward(completions=TEXTS, **columns(2, log_metric=metrics.__setitem__, log_extra=extra.__setitem__))
    assert [one.components["format"] for one in reward.last] == [1.0, 0.0]
    assert metrics["reward/format"] == 0.5
    assert metrics["reward/unscored"] == 0.0
    assert extra["grounding"] == [one.components["grounding"] for one in reward.last]
    assert all(len(values) == 2 for values in extra.values())


def test_a_reward_alone(reward: TRLReward) -> None:
    alone = trl_reward(Scorer(None, None, Weights(0.0, 0.0, 1.0)))
    assert alone(completions=TEXTS, **columns(2)) == [1.0, 0.0]


@pytest.mark.parametrize("name", ["task_type", "reference", "variants"])
def test_a_missing_or_short_column_is_named(reward: TRLReward, name: str) -> None:
    with pytest.raises(InputError, match=f"column '{name}'.* got none"):
        reward(completions=TEXTS, **columns(2, **{name: None}))
    with pytest.raises(InputError, match=f"column '{name}'.* got 1"):
        reward(completions=TEXTS, **columns(2, **{name: columns(1)[name]}))


def test_an_unknown_task_type_is_named(reward: TRLReward) -> None:
    with pytest.raises(InputError, match="poem"):
        reward(completions=TEXTS, **columns(2, task_type=["qa", "poem"]))


def test_no_completions_no_rewards(reward: TRLReward) -> None:
    assert reward(completions=[], **columns(0)) == []


def test_the_text_of_turns() -> None:
    assert text_of([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": None}]) == "a\n"
