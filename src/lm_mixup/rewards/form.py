"""Format: whether a rollout has the form that was asked for."""

from __future__ import annotations

from lm_mixup.records import TaskType
from lm_mixup.rewards.answers import Reading, read_answer

HALF = 0.5
"""What each half of the form is worth. METHOD § 3 [R]."""


def format_reward(text: str, task_type: TaskType) -> float:
    """0, 0.5 or 1: half for thought, answer and nothing else, half for the task type's form in the answer.

    METHOD § 3 [R]: white space is free and case ignored; ``para`` has no form and gets the second half. A text without
    a whole answer, such as one that was cut off, gets neither half, of any type. Linear time on any text.
    """
    return form_of(read_answer(text, task_type))


def form_of(reading: Reading) -> float:
    """The format reward of a text that was read already. What has no answer is neither exact nor an item."""
    return HALF * reading.exact + HALF * (reading.item is not None)
