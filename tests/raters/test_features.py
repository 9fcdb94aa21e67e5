"""Surface features: defined for any text, right on plain cases, linear in time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.raters.features import FEATURES, MAX_CHARS, features, matrix
from lm_mixup.records import Message, Sample

NAMES = list(FEATURES)
SOUND = "The Nile is the longest river in Africa. It flows north through eleven countries and ends in a wide delta."


def of(completion: str, prompt: str = "What is the Nile?", turns: int = 1) -> dict[str, float]:
    return dict(zip(NAMES, features(prompt, completion, turns=turns), strict=True))


@settings(max_examples=200)
@given(st.text(), st.text(), st.integers(0, 50))
def test_every_text_has_finite_features(prompt: str, completion: str, turns: int) -> None:
    values = features(prompt, completion, turns=turns)
    assert len(values) == len(FEATURES)
    assert all(math.isfinite(v) for v in values)


def test_the_empty_completion_has_no_words_and_no_damage() -> None:
    found = of("")
    assert found["completion_words"] == 0
    assert found["garbage"] == found["markup"] == found["repeated"] == 0


def test_lengths_are_logs_of_word_counts() -> None:
    assert of("one two three")["completion_words"] == pytest.approx(math.log(4))
    assert of("x", prompt="one two")["prompt_words"] == pytest.approx(math.log(3))
    assert of("x", turns=3)["turns"] == pytest.approx(math.log(3))


def test_scripts_without_spaces_are_counted_by_character() -> None:
    assert of("尼罗河是非洲最长的河流。")["completion_words"] == pytest.approx(math.log(12))
    assert of("ナイル川")["completion_words"] == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("name", "completion"),
    [
        ("repeated", "I like tea a lot. I like tea a lot. I like tea a lot. I like tea a lot."),
        ("doubled", "The the Nile Nile is is a river"),
        ("refusal", "I'm sorry, but I can't help with that."),
        ("markup", "<p>The Nile</p> is&nbsp;a river<br/>"),
        ("garbage", "The Ni�le is a â€™river\x1a"),
        ("mixed_scripts", "The Nile это river в Africa"),
        ("no_end", "The Nile is the longest river in the"),
        ("lower_start", "The Nile is long. it flows north. then it ends. so it is."),
        ("spacing", "The Nile ,a river , is long ."),
        ("stray_words", "Nile the of is river and or longest a the it"),
        ("list_lines", "- one\n- two\n- three"),
        ("table_or_heading", "| a | b |\n| 1 | 2 |"),
        ("code", "```python\nx = 1\n```"),
        ("formula", "So $$x^2$$ holds."),
        ("digits", "In 1914 and 1918"),
        ("completion_asks", "Why do you ask?"),
    ],
)
def test_a_sign_is_seen_where_it_is_and_not_in_sound_prose(name: str, completion: str) -> None:
    assert of(completion)[name] > of(SOUND)[name]
    assert of(SOUND)[name] == 0


@pytest.mark.parametrize(
    "code",
    [
        "Here it is:\n\n```python\n" + "for i in range(3):\n    print(i)\n" * 3 + "```\nIt prints the numbers.",
        "Use this:\n\n```html\n<p>a</p>\n<p>b</p>\n```\nThat is all.",
    ],
)
def test_code_is_no_damage(code: str) -> None:
    found = of(code)
    assert found["code"] > 0.3
    assert found["repeated"] == found["markup"] == found["lower_start"] == found["doubled"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "Река Нил — самая длинная в Африке. Она течёт на север.",
        "النيل هو أطول نهر في أفريقيا. يجري شمالا.",
        "नील नदी अफ्रीका की सबसे लंबी नदी है।",
        "แม่น้ำไนล์เป็นแม่น้ำที่ยาวที่สุดในแอฟริกา",
        "나일강은 아프리카에서 가장 긴 강이다.",
        "Der Nil ist der längste Fluss Afrikas. Er fließt nach Norden. 😀",
    ],
)
def test_other_languages_are_no_damage(text: str) -> None:
    found = of(text)
    assert found["garbage"] == found["mixed_scripts"] == found["stray_words"] == found["markup"] == 0


def test_an_echo_says_nothing_new() -> None:
    prompt = "Which of these rivers is the longest in Africa?"
    assert of(prompt, prompt=prompt)["echo"] == 1
    assert of("The Nile is the longest in Africa.", prompt=prompt)["echo"] == 0


def test_a_refusal_that_goes_on_to_answer_counts_less() -> None:
    refusal = "As an AI language model, I have no favourites."
    assert of(refusal)["refusal"] > of(f"{refusal} {SOUND * 5}")["refusal"] > 0
    assert of(f"{refusal} {SOUND * 30}")["refusal"] == 0


def test_a_long_text_is_scaled_up_from_its_beginning() -> None:
    sentence = "The Nile flows north. "
    once, long = of(sentence * 100), of(sentence * 100_000)
    assert long["completion_words"] == pytest.approx(math.log1p(400_000), abs=0.01)
    assert long["sentence_words"] == pytest.approx(once["sentence_words"], abs=0.02)


@pytest.mark.parametrize(
    "unit", [".", ". ", "\n", "a", "a ", " ", "<", "<a ", "$", "1+1", "|", "```", "[", "?!", "x-", ",;"]
)
def test_hostile_texts_cost_no_more_than_their_length(unit: str) -> None:
    text = (unit * MAX_CHARS)[:MAX_CHARS]
    # some 20 ms; a pattern that reads a run again from each of its characters runs into the time limit
    assert all(math.isfinite(v) for v in features(text * 5, text * 5))


def test_the_matrix_has_a_row_for_each_sample_whatever_its_company() -> None:
    samples = [Sample(str(i), (Message("user", f"q {i}"), Message("assistant", SOUND[: 10 * i]))) for i in range(5)]
    whole = matrix(samples)
    assert whole.shape == (5, len(FEATURES))
    for row, sample in zip(whole, samples, strict=True):
        np.testing.assert_array_equal(row, matrix([sample])[0])
