"""Noise: at the rate that was asked for, and never on what makes the form."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.mixture.noise import RATES, Noise
from lm_mixup.records import TaskType
from lm_mixup.task_types import MCQ, TFQ, parse, render

TEXT = "many careful people write letters about harbors and rivers in northern valleys "


@given(st.text(max_size=200), st.integers(0, 99), st.floats(0, 5))
def test_line_breaks_and_numbers_stay(text: str, seed: int, scale: float) -> None:
    noisy, _ = Noise().text(text, random.Random(seed), scale)
    assert noisy.count("\n") == text.count("\n")


def test_numbers_stay() -> None:
    noisy, _ = Noise({"typo": 0.5, "ocr": 0.5}).text("In 1944 some 1,200 men met at 12:30.", random.Random(1))
    assert all(number in noisy for number in ("1944", "1,200", "12:30"))


@pytest.mark.parametrize("kind", RATES)
def test_the_rate_is_the_share_of_words(kind: str) -> None:
    text = TEXT * 200
    noisy, kinds = Noise({kind: 0.1}).text(text, random.Random(0))
    before, after = text.split(), noisy.replace("&nbsp;", "").split()
    assert kinds == {kind}
    if kind in ("typo", "case", "ocr"):
        changed = sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
        assert 0.05 < changed < 0.12


def test_no_noise_is_no_change() -> None:
    assert Noise().text(TEXT, random.Random(0), 0.0) == (TEXT, frozenset())


def test_the_form_of_items_stays() -> None:
    item = MCQ("What do plants need?", ("sunlight", "pebbles", "copper", "timber"), 2, "Because plants need copper.")
    for seed in range(50):
        noisy, _ = Noise().item(item, random.Random(seed), 5)
        found = parse(TaskType.MCQ, render(noisy))
        assert isinstance(found, MCQ)
        assert found.answer == 2
    noisy, _ = Noise().item(TFQ("Plants need light.", True), random.Random(0), 5)
    assert render(noisy).endswith("\nAnswer: True")


def test_unknown_kinds_are_an_error() -> None:
    with pytest.raises(ValueError, match="noise rates"):
        Noise({"smudge": 0.1})
