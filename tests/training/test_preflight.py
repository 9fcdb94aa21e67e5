"""What the preflight says of groups of rollouts."""

import pytest

from lm_mixup.rewards import Scored
from lm_mixup.training.generation import Answer
from lm_mixup.training.preflight import report_of

FINE = Answer("a", 10, cut=False)


def scored(total, form=1.0):
    return Scored(total, {"quality": total, "format": form})


def report(rewards, *, answers=None, size=2):
    return report_of(rewards, answers or [FINE] * len(rewards), size, a_step=36.0, steps=100, memory_gb=1.0)


def test_groups_with_spread_can_be_learned_from():
    found = report([scored(0.2), scored(0.6), scored(0.5), scored(0.5)])
    assert found.refused == ()
    assert found.without_spread == 0.5
    assert found.spread == pytest.approx(0.1)
    assert found.reward == pytest.approx(0.45)
    assert found.components["quality"] == {"mean": pytest.approx(0.45), "spread": pytest.approx(0.1)}
    assert found.hours == pytest.approx(1.0)
    assert "4 rollouts in 2 groups" in found.as_text()


@pytest.mark.parametrize(
    ("rewards", "answers", "reason"),
    [
        ([scored(0.5)] * 8, None, "no advantage"),
        ([scored(0.1, 0.0), scored(0.2, 0.0)], None, "form that is asked for"),
        ([scored(0.1), scored(0.2)], [Answer("a", 9, cut=True)] * 2, "cut at grpo.max_new_tokens"),
        ([scored(0.1), scored(0.3), Scored(None, {}, reason="x"), scored(0.2)], None, "cannot be scored"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_its_reason(rewards, answers, reason):
    assert any(reason in why for why in report(rewards, answers=answers).refused)


def test_a_group_without_two_scores_has_no_spread():
    found = report([Scored(None, {}), scored(0.2), Scored(None, {}), Scored(None, {})])
    assert found.without_spread == 1.0
    assert found.spread is None
    assert found.unscored == 0.75
    assert "none" in found.as_text()
