"""ROUGE-L and copy rate: known values, bounds, and the plain way to the same numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.evaluation.text import common_words, copy_rate, rouge_l, surplus, words_of

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "1984"]), max_size=30)


def plain(first: list[str], second: list[str]) -> int:
    """The textbook's table."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, start=1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    return row[-1]


@given(WORDS, WORDS)
def test_common_words_are_those_of_the_table(first: list[str], second: list[str]) -> None:
    assert common_words(first, second) == plain(first, second) == common_words(second, first)


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        # Lin 2004, § 3.1: the example of the paper, LCS 3 and 2 of 4 words
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("the gunman police killed", "police killed the gunman", 0.5),
        ("The cat sat.", "the cat sat", 1.0),
        ("one two three four", "one three", 2 * 1.0 * 0.5 / 1.5),
        ("", "the cat", 0.0),
        ("…", "the cat", 0.0),
        ("dog", "cat", 0.0),
    ],
)
def test_rouge_l_of_known_texts(text: str, reference: str, expected: float) -> None:
    assert rouge_l(text, reference) == pytest.approx(expected)


@given(st.text(max_size=60), st.text(max_size=60))
def test_rouge_l_is_a_share_and_symmetric(first: str, second: str) -> None:
    assert 0.0 <= rouge_l(first, second) <= 1.0
    assert rouge_l(first, second) == rouge_l(second, first)
    assert rouge_l(first, first) == (1.0 if words_of(first) else 0.0)


def test_a_copy_of_one_source_is_copied_whole() -> None:
    sources = ["The lake froze in the winter of 1963, and skaters came.", "Fish live in it."]
    assert copy_rate(sources[0], sources) == 1.0
    assert copy_rate("the lake froze in the winter", sources) == 1.0
    assert copy_rate("Fish live in it!", sources) == 1.0


def test_a_text_of_two_sources_is_copied_by_half() -> None:
    sources = ["one two three four five", "six seven eight nine ten"]
    assert copy_rate("one two three four five six seven eight nine ten", sources) == 0.5
    assert copy_rate("ten nine eight seven six", sources) == 0.0


def test_short_texts_are_copied_where_they_stand_in_a_source() -> None:
    assert copy_rate("in Paris", ["She lives in Paris."]) == 1.0
    assert copy_rate("in Rome", ["She lives in Paris."]) == 0.0
    assert copy_rate("", ["anything"]) == 0.0


@given(WORDS, st.lists(WORDS, max_size=3))
def test_copy_rate_is_a_share_and_grows_with_the_sources(text: list[str], sources: list[list[str]]) -> None:
    rates = [copy_rate(" ".join(text), [" ".join(s) for s in sources[:n]]) for n in range(len(sources) + 1)]
    assert rates == sorted(rates)
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert copy_rate(" ".join(text), [" ".join(text)]) == (1.0 if text else 0.0)


def test_surplus_is_what_the_reference_does_not_have_or_not_so_often() -> None:
    assert surplus("The cat sat.", "the CAT sat down") == 0.0
    assert surplus("the cat sat sat", "the cat sat") == 0.25
    assert surplus("teh something cat", "the cat") == pytest.approx(2 / 3)
    assert surplus("", "the cat") == 0.0


@given(WORDS, WORDS)
def test_surplus_is_a_share(text: list[str], reference: list[str]) -> None:
    assert 0.0 <= surplus(" ".join(text), " ".join(reference)) <= 1.0
    assert surplus(" ".join(text), " ".join(text + reference)) == 0.0
