"""Facts: what an item says, and whether texts still hold it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.distillers.facts import Keeper, coverage, facts_of
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Para, render

ITEM = QA(
    "When was the abbey founded?",
    "In 1098. The abbey was founded by Robert of Molesme in 1098, and it burned down twice.",
)


def test_an_item_holds_all_of_its_own_facts() -> None:
    items = [
        ITEM,
        MCQ("What do plants need?", ("light", "sand", "iron", "wood"), 0, "Plants make sugar with light."),
        TFQ("The moon is a star.", False, "The moon is a rock that reflects light."),
        CS("Moon", "The moon orbits the earth; it takes 27 days, because it is far away from us."),
        Para("One sentence stands here. Another one follows it with 12 numbers."),
    ]
    for item in items:
        assert coverage(facts_of(item), [render(item)]) == 1


def test_long_sentences_fall_into_clauses_and_pieces_are_exact() -> None:
    body = [f.text for f in facts_of(ITEM) if f.part == "body"]
    assert body == ["In 1098.", "The abbey was founded by Robert of Molesme in 1098,", "and it burned down twice."]
    assert " ".join(body) == ITEM.answer


def test_what_is_lost_is_named() -> None:
    keeper = Keeper(facts_of(ITEM))
    assert keeper.missing(["Q: When was the abbey founded?\nA: It burned down twice."]) == [1, 2]
    assert keeper.missing(["Q: The abbey?\nA: The abbey was founded by Robert of Molesme in 1098."]) == [0, 3]


def test_another_number_does_not_hold_a_fact() -> None:
    facts = facts_of(Para("The abbey was founded by Robert in 1098."))
    assert coverage(facts, ["The abbey was founded by Robert in 1099."]) == 0
    assert coverage(facts, ["The abbbey was founded by Robert in 1098."]) == 1


def test_an_answer_is_held_under_another_letter_but_not_when_wrong() -> None:
    item = MCQ("What do plants need?", ("sand", "light", "iron"), 1)
    answer = next(n for n, f in enumerate(facts_of(item)) if f.part == "answer")
    keeper = Keeper(facts_of(item))
    assert answer in keeper.held("Q: What?\nA) light\nB) iron\nAnswer: A) light")
    assert answer not in keeper.held("Q: What?\nA) light\nB) iron\nAnswer: B) iron")


def test_the_head_is_looked_for_at_the_head() -> None:
    item = TFQ("Amber is a mineral.", False, "Amber is no mineral.")
    assert 0 not in Keeper(facts_of(item)).held("Amber.\nAnswer: False\nAmber is no mineral.")


@given(
    st.lists(
        st.sampled_from(
            [
                "The abbey burned in 1201.",
                "Monks sang.",
                "It rained, and it rained again, because autumn came to the valley.",
            ]
        ),
        max_size=6,
    )
)
def test_more_texts_never_hold_less(texts: list[str]) -> None:
    facts = facts_of(
        Para("The abbey burned in 1201. Monks sang. It rained, and it rained again, because autumn came to the valley.")
    )
    shares = [coverage(facts, texts[:n]) for n in range(len(texts) + 1)]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
