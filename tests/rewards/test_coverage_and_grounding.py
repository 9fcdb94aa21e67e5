"""Coverage and grounding: what the cluster says is held, what it does not say is not added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.distillers.coverage import cluster_facts
from lm_mixup.records import TaskType
from lm_mixup.rewards import coverage_reward, grounding_reward

TARGET = (
    "The old bridge of Arnsford was built by Clara Bell in 1874. It carries two railway tracks across the river. "
    "A fire destroyed its wooden roof in 1902."
)
VARIANTS = (
    "the old bridge of arnsford was built by clara bell in 1874. it carries two railway tracks across the river lol",
    "The old bridge of Arnsford was built by Clara Bell in a certain year. A fire destroyed its wooden roof in 1902.",
    "To be honest, A fire destoryed its wooden&nbsp;roof in 1902. As said, a fire destroyed its wooden roof in 1902.",
    "The old bridge of Arnsford was built by Clara Bell in 1974. It carries two",
    "It carries two railway tracks across the river. The old bridge of Arnsford was built by Clara Bell in 1874.",
)
FOREIGN = "Bees make honey from the nectar of flowers. They live in hives of many thousands."


def cover(answer: str, kind: TaskType = TaskType.PARA) -> float:
    return coverage_reward(answer, VARIANTS, kind)


def ground(answer: str, kind: TaskType = TaskType.PARA) -> float:
    return grounding_reward(answer, VARIANTS, kind)


def test_facts_that_say_the_same_are_one_as_most_state_it() -> None:
    facts = [fact.text for fact in cluster_facts(VARIANTS, TaskType.PARA)]
    assert len(facts) == 3
    assert "1874" in facts[0]
    assert "railway" in facts[1]
    assert "1902" in facts[2]


def test_the_whole_is_all_and_a_part_is_a_part() -> None:
    first, second, third = TARGET.split(". ")
    assert cover(TARGET) == 1.0
    assert cover(f"{first}. {third}") == pytest.approx(2 / 3)
    assert cover(second) == pytest.approx(1 / 3)
    assert cover(FOREIGN) == 0.0


def test_a_wrong_number_is_not_the_fact() -> None:
    assert cover(TARGET.replace("1874", "1974")) == pytest.approx(2 / 3)


def test_the_commonest_number_counts_however_much_the_others_say() -> None:
    more = "The old stone bridge of Arnsford was built by young Clara Bell in {}."
    said = [*["Clara Bell built the bridge of Arnsford in 1874."] * 2, more.format(1974), more.format(1847)]
    assert [fact.text for fact in cluster_facts(said, TaskType.PARA)] == [said[0]]


def test_the_commonest_answer_counts() -> None:
    said = "Ice is frozen water.\nAnswer: {}"
    cluster = [said.format("True"), said.format("False"), said.format("True")]
    assert coverage_reward(said.format("True"), cluster, TaskType.TFQ) == 1.0
    assert coverage_reward(said.format("False"), cluster, TaskType.TFQ) == 0.5


def test_a_vague_question_is_no_fact() -> None:
    cluster = [
        f"Q: {q}\nA: Clara Bell." for q in ("Who built the bridge?", "Who built the bridge?", "What of Arnsford?")
    ]
    assert [f.text for f in cluster_facts(cluster, TaskType.QA) if f.part == "head"] == ["Who built the bridge?"]


def test_an_empty_cluster_asks_for_nothing_and_supports_nothing() -> None:
    assert coverage_reward("anything", (), TaskType.PARA) == 1.0
    assert grounding_reward("Anything goes here.", (), TaskType.PARA) == 0.0


def test_grounding_is_the_share_of_supported_claims() -> None:
    assert ground(TARGET) == 1.0
    assert ground(f"{TARGET} {FOREIGN}") == pytest.approx(3 / 5)
    assert ground(FOREIGN) == 0.0
    assert ground("") == 0.0


def test_grounding_does_not_ask_for_more_and_coverage_does_not_mind_it() -> None:
    assert ground(TARGET.split(". ")[1]) == 1.0
    assert cover(f"{TARGET} {FOREIGN}") == 1.0


@given(st.lists(st.text(max_size=100), max_size=5), st.text(max_size=200), st.sampled_from(list(TaskType)))
def test_both_lie_between_nought_and_one(variants: list[str], answer: str, kind: TaskType) -> None:
    assert 0.0 <= coverage_reward(answer, variants, kind) <= 1.0
    assert 0.0 <= grounding_reward(answer, variants, kind) <= 1.0


@given(st.lists(st.sampled_from([*TARGET.split(". "), *FOREIGN.split(". ")]), max_size=6), st.text(max_size=100))
def test_saying_more_never_covers_less(said: list[str], more: str) -> None:
    answer = ". ".join(said)
    assert cover(f"{answer} . {more}") >= cover(answer)
