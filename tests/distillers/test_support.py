"""Support: a claim stands if one source bears it out, number, name, denial and all; noise in sources is forgiven."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.distillers.facts import Fact
from lm_mixup.distillers.support import MAX_CHARS, Sources, claims, misspelt
from lm_mixup.records import TaskType

BRIDGE = "The old bridge of Arnsford was built by Clara Bell in 1874. It carries two railway tracks across the river."
NOISY = "the old bridge of Arnsfrod was built by by Clara Bell in 1874. it carries something across the <b>river</b>."


def supported(claim: str, *texts: str, kind: TaskType = TaskType.PARA) -> bool:
    return Sources(kind, texts).unsupported(claim) == ()


@pytest.mark.parametrize(
    "claim",
    [
        "The old bridge of Arnsford was built by Clara Bell in 1874.",
        "Clara Bell built the old bridge of Arnsford in 1874.",
        "The bridge carries two railway tracks across the river.",
        "It carries two railway tracks.",
    ],
)
def test_what_a_source_says_is_supported(claim: str) -> None:
    assert supported(claim, BRIDGE)


@pytest.mark.parametrize(
    "claim",
    [
        "The old bridge of Arnsford was built by Clara Bell in 1875.",
        "The old bridge of Arnsford was built by Clara Smith in 1874.",
        "The old bridge of Arnsford was not built by Clara Bell in 1874.",
        "The bridge carries three motorway lanes across the canyon.",
        "It carries two railway tracks and a footpath across the frozen river.",
        "It was closed after the flood.",
        "No.",
    ],
)
def test_what_no_source_says_is_not(claim: str) -> None:
    assert not supported(claim, BRIDGE, NOISY)


def test_a_typing_error_in_the_source_is_forgiven_but_never_in_a_number() -> None:
    assert supported("The old bridge of Arnsford was built by Clara Bell in 1874.", NOISY)
    assert not supported("The old bridge of Arnsford was built by Clara Bell in 1847.", NOISY)


def test_one_source_must_say_it_all() -> None:
    apart = ("Clara Bell was an engineer of Arnsford.", "The old bridge was built in 1874.")
    assert not supported("Clara Bell of Arnsford built the old bridge in 1874.", *apart)


def test_a_denial_needs_one_in_the_source_and_the_other_way_about() -> None:
    source = "Whales are not fish, although they live in the sea."
    assert supported("Whales are not fish.", source)
    assert not supported("Whales are fish.", source)


def test_claims_of_a_multiple_choice_item() -> None:
    source = "Q: What is ice made of?\nA) water\nB) sand\nAnswer: A) water"
    again = "Q: What is ice made of?\nA) sand\nB) water\nAnswer: B) water"
    assert supported(again, source, kind=TaskType.MCQ)  # letters may change, the answer may not
    wrong = "Q: What is ice made of?\nA) water\nB) sand\nAnswer: B) sand"
    assert Sources(TaskType.MCQ, [source]).unsupported(wrong) == (Fact("answer", "Answer: B) sand"),)
    more = source.replace("B) sand", "B) sand\nC) glass")
    assert Sources(TaskType.MCQ, [source]).unsupported(more) == (Fact("option", "glass"),)


def test_a_question_over_two_topics_rests_on_two_sources() -> None:
    sources = ("Q: Who built the bridge?\nA: Clara Bell.", "Q: When was the tunnel opened?\nA: In 1901.")
    joined = "Q: Who built the bridge? And when was the tunnel opened?\nA: Clara Bell. In 1901."
    assert supported(joined, *sources, kind=TaskType.QA)


def test_text_without_the_form_is_read_as_running_text() -> None:
    assert [fact.part for fact in claims(TaskType.QA, "Just a sentence here. And one more of them.")] == ["body"] * 2


@pytest.mark.parametrize(("word", "other"), [("bridge", "bridgs"), ("bridge", "brdige"), ("bridge", "ridge")])
def test_one_error_is_a_misspelling(word: str, other: str) -> None:
    assert misspelt(word, frozenset({"table", other}))


@pytest.mark.parametrize(("word", "other"), [("bridge", "badger"), ("cat", "bat"), ("1874", "1875")])
def test_two_errors_short_words_and_numbers_are_not(word: str, other: str) -> None:
    assert not misspelt(word, frozenset({other}))


@given(st.lists(st.text(max_size=120), max_size=5), st.text(max_size=200), st.sampled_from(list(TaskType)))
def test_any_texts_can_be_asked_and_order_does_not_matter(texts: list[str], answer: str, kind: TaskType) -> None:
    found = Sources(kind, texts).unsupported(answer)
    assert set(found) <= set(claims(kind, answer))
    assert found == Sources(kind, texts[::-1]).unsupported(answer)


@given(st.lists(st.sampled_from(BRIDGE.replace(".", " .").split()), min_size=1, max_size=30))
def test_another_source_never_takes_support_away(words: list[str]) -> None:
    claim = " ".join(words)
    alone = Sources(TaskType.PARA, [NOISY]).unsupported(claim)
    assert set(Sources(TaskType.PARA, [NOISY, BRIDGE]).unsupported(claim)) <= set(alone)


@pytest.mark.parametrize("unit", ["word ", ". ", "( ", "and, ", "A) x\n", "&nbsp;"])
def test_a_text_without_end_is_read_to_a_bound(unit: str) -> None:
    text = unit * 100_000
    assert claims(TaskType.PARA, text) == claims(TaskType.PARA, text[:MAX_CHARS])
    Sources(TaskType.MCQ, [text]).unsupported(text)
