"""Format: two halves, none for a text without its end, and linear time on whatever a model writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.prompts.compact import completion
from lm_mixup.records import TaskType
from lm_mixup.rewards import answer_sample, format_reward, read_answer
from lm_mixup.task_types import MCQ, parse

GOOD = {
    TaskType.QA: "Q: What is ice?\nA: Frozen water.",
    TaskType.MCQ: "Q: What is ice made of?\nA) water\nB) sand\nAnswer: A) water\nIt melts into water.",
    TaskType.TFQ: "Ice is frozen water.\nAnswer: True\nIt melts at 0 degrees.",
    TaskType.CS: "C: Ice\nS: It is frozen water.",
    TaskType.PARA: "Ice is frozen water. It melts at 0 degrees.",
}
OTHER_FORM = {
    TaskType.QA: GOOD[TaskType.CS],
    TaskType.MCQ: "Q: What is ice made of?\nA) water\nB) sand",
    TaskType.TFQ: GOOD[TaskType.PARA],
    TaskType.CS: GOOD[TaskType.QA],
}
types = pytest.mark.parametrize("kind", list(TaskType))


@types
@pytest.mark.parametrize("think", ["", "Sample 1 breaks off."])
def test_the_form_that_was_asked_for_is_worth_all(kind: TaskType, think: str) -> None:
    assert format_reward(completion(GOOD[kind], think), kind) == 1.0


@types
def test_case_and_white_space_are_free(kind: TaskType) -> None:
    assert format_reward(f"\n <Think>hm</THINK>  \n< answer >\n{GOOD[kind]}</Answer>\n", kind) == 1.0


@types
def test_something_beside_the_parts_costs_half(kind: TaskType) -> None:
    for text in (
        f"{completion(GOOD[kind])} Done.",
        f"Sure! {completion(GOOD[kind])}",
        f"<answer>{GOOD[kind]}</answer>",
    ):
        assert format_reward(text, kind) == 0.5


@pytest.mark.parametrize("kind", list(OTHER_FORM))
def test_the_wrong_form_in_the_answer_costs_half(kind: TaskType) -> None:
    assert format_reward(completion(OTHER_FORM[kind]), kind) == 0.5
    assert format_reward(f"<answer>{OTHER_FORM[kind]}</answer>", kind) == 0.0


@types
def test_a_text_that_was_cut_off_is_worth_nothing_wherever_it_was(kind: TaskType) -> None:
    whole = completion(GOOD[kind], "Sample 1 breaks off.")
    for end in range(whole.index("</answer>") + len("</answer>")):
        assert format_reward(whole[:end], kind) == 0.0


@given(st.text(max_size=400), st.sampled_from(list(TaskType)))
def test_any_text_is_worth_nought_half_or_one(text: str, kind: TaskType) -> None:
    assert format_reward(text, kind) in (0.0, 0.5, 1.0)
    assert format_reward(completion(text), kind) in (0.0, 0.5, 1.0)


def test_what_is_read_off_a_rollout() -> None:
    reading = read_answer(completion(GOOD[TaskType.MCQ]), TaskType.MCQ)
    assert reading.answer == GOOD[TaskType.MCQ]
    assert isinstance(reading.item, MCQ)
    assert reading.exact
    assert read_answer("<answer>", TaskType.QA).answer is None


@types
def test_the_sample_of_an_answer_is_that_of_the_pipeline(kind: TaskType) -> None:
    sample = answer_sample("s", kind, GOOD[kind])
    item = parse(kind, GOOD[kind])
    assert sample.task_type == kind
    assert item is not None
    assert len(sample.messages) == 2


def test_the_answer_line_stays_in_what_is_embedded() -> None:
    assert "A) water\nIt melts" in answer_sample("s", TaskType.MCQ, GOOD[TaskType.MCQ]).completion
    assert answer_sample("s", TaskType.TFQ, GOOD[TaskType.TFQ]).completion.startswith("True")


def test_an_answer_without_the_form_stays_as_it_is() -> None:
    assert answer_sample("s", TaskType.MCQ, OTHER_FORM[TaskType.MCQ]).completion == OTHER_FORM[TaskType.MCQ]


UNITS = [
    "<think>",
    "<answer>",
    "</answer>",
    "<answer>a</answer>",
    "<   ",
    "\n",
    " ",
    "A) x\n",
    "A)",
    "answer ",
    "Answer: ",
]
HEADS = [
    "",
    "<think></think><answer>",
    "<think></think><answer>Q: x\nA) a\nB) b\nanswer",
    "<think></think><answer>s\nthe correct answer is",
    "<think></think><answer>Q: x\nA)",
]


@types
@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_in_step_with_the_text(kind: TaskType, unit: str) -> None:
    """A hundred thousand characters of each; what takes quadratic time (the reference: 8.7 s for a thousand characters)
    runs for hours and into the test's time-out. How fast it is, ``python -m benchmarks.rewards`` says.
    """
    for head in HEADS:
        assert format_reward(f"{head}{unit * (100_000 // len(unit))}\nx</answer>", kind) in (0.0, 0.5, 1.0)
