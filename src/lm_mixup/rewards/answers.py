"""Rollouts, and what can be read off one: its answer, its item, the sample that it becomes."""

from __future__ import annotations

from dataclasses import dataclass

from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.records import Message, Sample, TaskType
from lm_mixup.task_types import Item, parse, to_messages


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion that a model wrote for a cluster.

    ``text`` is all that it wrote, ``<think>`` and ``<answer>`` with it; one that was cut off at the length limit simply
    lacks its end. ``reference`` is the good sample in its written form ("" where there is none), ``variants`` are the
    cluster's texts.
    """

    text: str
    task_type: TaskType
    reference: str = ""
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text holds.

    ``answer`` is what stands in its answer part, None where no answer can be told for certain (cut off, empty, several
    different ones); ``exact``: thought, answer and nothing else; ``item``: the answer as an item of its task type, None
    where it does not have the type's form.
    """

    answer: str | None
    exact: bool
    item: Item | None


def read_answer(text: str, task_type: TaskType) -> Reading:
    """Read a rollout's text. Linear time on any text; never raises."""
    found = parse_think_answer(text)
    if found is None:
        return Reading(None, False, None)
    return Reading(found.answer, found.exact, parse(task_type, found.answer))


def answer_sample(id: str, task_type: TaskType, answer: str) -> Sample:
    """The sample that an answer becomes in the pipeline; what is embedded and rated is its ``text``.

    One without the task type's form stays as it is, a turn without a question. A multiple-choice or true/false answer
    keeps its answer line, as the rated library's texts do.
    """
    item = parse(task_type, answer)
    messages = (Message("assistant", answer),) if item is None else to_messages(item)
    return Sample(id, messages, task_type=task_type)
