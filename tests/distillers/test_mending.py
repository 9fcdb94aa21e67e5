"""A model's answer is mended with what extraction made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.distillers.coverage import coverage
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.mending import invented, mended
from lm_mixup.records import TaskType
from lm_mixup.task_types import parse

IRON = "Iron is sold by the pound in Leeds."
MARKET = "The market opens at nine on Fridays."
WOOL = "Wool comes from the hills of Otley."
SALT = "Salt was taxed by King George in 1764."
TEXTS = (f"{IRON} {MARKET}", f"{WOOL} {SALT}", IRON)


def mend(answer, extracted=f"{IRON} {MARKET} {WOOL} {SALT}", texts=TEXTS, kind=TaskType.PARA):
    return mended(answer, extracted, texts, kind)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (f"{IRON} {MARKET} {WOOL} {SALT}", f"{IRON} {MARKET} {WOOL} {SALT}"),
        (f"{IRON} {WOOL} {SALT}", f"{IRON} {MARKET} {WOOL} {SALT}"),
        (f"{WOOL}", f"{IRON} {MARKET} {WOOL} {SALT}"),
        (f"{IRON} {IRON} {MARKET} {WOOL} {SALT} King George taxed salt in 1764.", f"{IRON} {MARKET} {WOOL} {SALT}"),
        (f"{IRON} {MARKET} {WOOL} {SALT} Penguins live in Leeds.", f"{IRON} {MARKET} {WOOL} {SALT}"),
        (f"{IRON} {MARKET} {WOOL} Salt was taxed by King George in 1765.", f"{IRON} {MARKET} {WOOL} {SALT}"),
        (f"{SALT} {IRON} {MARKET}", f"{SALT} {IRON} {MARKET} {WOOL}"),
    ],
)
def test_what_is_bad_goes_and_what_is_missing_comes_in_where_it_belongs(answer, wanted):
    assert mend(answer) == wanted


def test_an_answer_of_several_lines_or_another_form_stays():
    assert mend(f"{IRON}\n{MARKET}") == f"{IRON}\n{MARKET}"
    assert mend(IRON, extracted=f"1. {MARKET}\n2. {WOOL}") == IRON
    assert mend("no question here", extracted=f"Q: What?\nA: {IRON}", kind=TaskType.QA) == "no question here"


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (TaskType.QA, "Q: What is sold in Leeds?\nA: {}"),
        (TaskType.CS, "C: Leeds\nS: {}"),
        (TaskType.TFQ, "Iron is sold in Leeds.\nAnswer: True\n{}"),
        (TaskType.MCQ, "Q: What is sold in Leeds?\nA) iron\nB) tea\nAnswer: A) iron\n{}"),
        (TaskType.PARA, "{}"),
    ],
)
def test_each_type_is_mended_in_its_body(kind, form):
    texts = [form.format(text) for text in TEXTS]
    got = mend(form.format(f"{IRON} {WOOL} {WOOL}"), form.format(f"{IRON} {MARKET}"), texts, kind)
    assert got == form.format(f"{IRON} {MARKET} {WOOL}")


def test_bare_answers_are_not_put_side_by_side():
    texts = ["Q: Which gas?\nA: (C)", "Q: Which metal?\nA: (B)"]
    assert mend(texts[0], texts[1], texts, TaskType.QA) == texts[0]


def test_a_word_that_no_text_has_is_invented():
    assert invented("Iron and carbon are sold in Leeds, on the hill of Otley.", TEXTS) == content_words("carbon")
    assert invented(f"{WOOL.upper()} It is so.", TEXTS) == frozenset()


SENTENCES = st.lists(
    st.sampled_from([IRON, MARKET, WOOL, SALT, "Penguins live in Lisbon.", "Iron is sold."]), max_size=8
)


@given(SENTENCES, SENTENCES)
def test_a_mended_answer_holds_what_extraction_holds_and_invents_nothing(said, taken):
    answer, extracted = " ".join(said) or "x", " ".join(one for one in taken if "Penguins" not in one) or IRON
    got = mend(answer, extracted)
    assert parse(TaskType.PARA, got) is not None
    assert mend(got, extracted) == got
    if not any("Penguins" not in one for one in said):  # nothing in it is of use
        assert got == answer
        return
    assert coverage(got, TEXTS, TaskType.PARA) >= coverage(extracted, TEXTS, TaskType.PARA)
    assert not invented(got, [*TEXTS, extracted])
