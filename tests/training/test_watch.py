"""The watch against reward hacking, and what it measures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.training.watch import copied, distinct, hacked


def look(step, reward, judge, error=0.1):
    return {"step": step, "reward": reward, "judge": judge, "judge_error": error}


def test_a_rising_reward_with_a_falling_judge_stops_after_patience():
    looks = [look(0, 0.5, 3.0), look(10, 0.6, 2.0), look(20, 0.7, 2.0), look(30, 0.8, 2.1)]
    assert hacked(looks, patience=3)
    assert not hacked(looks[:3], patience=3)


@pytest.mark.parametrize(
    "last", [look(30, 0.4, 2.0), look(30, 0.8, 2.9), look(30, 0.8, None), look(30, 0.8, 2.0, error=2.0)]
)
def test_anything_else_goes_on(last):
    assert not hacked([look(0, 0.5, 3.0), look(10, 0.6, 2.0), look(20, 0.7, 2.0), last], patience=3)


def test_copied_and_distinct():
    source = "the quick brown fox jumps over the lazy dog"
    assert copied(source, [source]) == 1.0
    assert copied("nothing of this stands in there at all", [source]) == 0.0
    assert copied("The quick, brown fox jumps. Nobody saw it", [source]) == pytest.approx(1 / 4)
    assert copied("too short", [source]) == 0.0
    assert distinct(["a b c d", "a b c d"]) == 0.5
    assert distinct([]) == 0.0


@given(st.text(max_size=200), st.lists(st.text(max_size=100), max_size=4))
def test_shares_lie_between_0_and_1(text, sources):
    assert 0.0 <= copied(text, sources) <= 1.0
    assert 0.0 <= distinct([text, *sources]) <= 1.0
