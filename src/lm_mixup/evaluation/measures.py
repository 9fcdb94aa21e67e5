"""What is measured of each answer, and what each measure is called and means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from lm_mixup.distillers.facts import Keeper, facts_of
from lm_mixup.evaluation.entrants import Answer
from lm_mixup.evaluation.text import copy_rate, rouge_l, surplus, words_of
from lm_mixup.mixture.rows import Row
from lm_mixup.records import TaskType
from lm_mixup.rewards import coverage_reward, format_reward, grounding_reward
from lm_mixup.task_types import parse

RATING, RATING_AT_LENGTH, RATING_WITH_FAILURES = "rating", "rating_at_length", "rating_failed_0"
ALIGNMENT, WORDS, FAILED = "alignment", "words", "failed"


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure: the head of its column, its decimals, and what it is."""

    head: str
    decimals: int
    meaning: str


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        RATING: Measure("rating", 2, "mean rating by the judge, 0–5"),
        RATING_AT_LENGTH: Measure(
            "at reference's length",
            2,
            "the rating as it would be at the reference's length: less slope · log(words / the reference's words); "
            "part of what length earns is earned, so the truth lies between this and the plain rating",
        ),
        RATING_WITH_FAILURES: Measure(
            "failures as 0", 2, "the rating, were each row without an answer rated 0: for comparison, never ranked by"
        ),
        "format": Measure(
            "format",
            3,
            "share whose whole output has the asked form: <think>…</think><answer>…</answer> and nothing else, with a "
            "sample of the task type in it; of distillers that write no such output, the sample alone",
        ),
        ALIGNMENT: Measure("alignment", 3, "cosine of the embeddings of answer and reference, each as a conversation"),
        "coverage": Measure("coverage", 3, "share of the facts in the sources that the answer holds"),
        "reference_coverage": Measure(
            "coverage of reference", 3, "share of the facts in the reference that the answer holds"
        ),
        "grounding": Measure("grounding", 3, "share of the answer's claims that a source supports"),
        "rouge_l": Measure("ROUGE-L", 3, "F1 of the longest common subsequence of words with the reference, unstemmed"),
        "surplus": Measure(
            "surplus",
            3,
            "share of the answer's words that the reference does not have, or not so often: noise, repeats, inventions",
        ),
        WORDS: Measure("words", 1, "words in the answer"),
        "copied": Measure(
            "copied", 3, "share of the answer's words in runs of four or more of one source, the one that gives most"
        ),
        "fallback": Measure("fallback", 3, "share of answers that are not the model's own but its fallback's"),
        FAILED: Measure("failed", 3, "share of rows without an answer; every mean leaves them out"),
    }
)
"""In the order of the tables. Those of text are over the rows with an answer."""

OF_TEXT = ("coverage", "reference_coverage", "grounding", "rouge_l", "surplus", WORDS, "copied", "fallback")

Values = dict[str, float]
"""Measures by name; NaN where there is nothing to measure."""


def measure(row: Row, answer: Answer, references: Keeper | None) -> Values:
    """Every measure of one answer that needs neither judge nor embedder; ``references``: of the row's output."""
    values = dict.fromkeys(OF_TEXT, math.nan) | {"format": _format(row, answer), FAILED: float(answer.text is None)}
    if answer.text is None:
        return values
    kind = TaskType(row.task_type)
    return values | {
        "coverage": coverage_reward(answer.text, row.variants, kind),
        "reference_coverage": _held(references, answer.text),
        "grounding": grounding_reward(answer.text, row.variants, kind),
        "rouge_l": rouge_l(answer.text, row.output),
        "surplus": surplus(answer.text, row.output),
        WORDS: float(len(words_of(answer.text))),
        "copied": copy_rate(answer.text, row.variants),
        "fallback": float(answer.fallback),
    }


def references_of(row: Row) -> Keeper | None:
    """What tells which facts of the row's output a text holds; None where the output has not its type's form."""
    item = parse(TaskType(row.task_type), row.output)
    return None if item is None else Keeper(facts_of(item))


def _held(references: Keeper | None, text: str) -> float:
    if references is None or not references.facts:
        return math.nan
    return len(references.held(text)) / len(references.facts)


def _format(row: Row, answer: Answer) -> float:
    if answer.said is not None:
        return float(format_reward(answer.said, TaskType(row.task_type)) >= 1.0)
    if answer.text is not None:
        return 1.0  # an answer that is kept has its type's form
    return 0.0 if answer.reason == "bad-format" else math.nan


def lengths_of(rows: Sequence[Row]) -> list[float]:
    """Words of each row's output."""
    return [float(len(words_of(row.output))) for row in rows]
