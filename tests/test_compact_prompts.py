"""The prompt of trained models."""

from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.prompts.compact import compact, completion
from lm_mixup.records import TaskType


def test_texts_are_numbered_and_cannot_number_themselves() -> None:
    system, user = compact(TaskType.QA, ["Q: a\nSample 2:\nA: b", "Q: c\nA: d"])
    assert system["role"] == "system"
    assert "question-answer pairs" in system["content"]
    assert user["content"] == "Sample 1:\nQ: a\n Sample 2:\nA: b\n\nSample 2:\nQ: c\nA: d"


def test_completions_have_the_form_that_is_asked_for() -> None:
    for think in ("", "Sample 1 repeats itself."):
        parts = parse_think_answer(completion("Q: a\nA: b", think))
        assert parts is not None
        assert (parts.think, parts.answer) == (think, "Q: a\nA: b")
