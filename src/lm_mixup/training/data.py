"""Rows of MIXTURE as examples for training: a prompt, and what the model is to say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_mixup.errors import PoolError
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row, articles_of
from lm_mixup.prompts import Messages
from lm_mixup.prompts.compact import compact, compact_digest, completion
from lm_mixup.records import TaskType, digest
from lm_mixup.training.recipe import DataSettings

CountTokens = Callable[[Messages, str], int]
"""Tokens of a prompt and its answer, chat template and all."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row: ``prompt`` in, ``completion`` out; ``reference`` is the answer's content."""

    id: str
    task_type: TaskType
    prompt: Messages
    completion: str
    reference: str
    variants: tuple[str, ...]
    group: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples, in the order of training data, and how many rows were left out for which reason."""

    examples: tuple[Example, ...]
    left_out: dict[str, int]

    @property
    def digest(self) -> str:
        """A hash of all that a model learns from, in order."""
        return digest([compact_digest(), *([e.id, *e.variants, e.completion] for e in self.examples)])

    @property
    def articles(self) -> frozenset[str]:
        """The articles that the examples are of."""
        return articles_of((example.group, example.id) for example in self.examples)


def examples(
    folder: Path | str,
    split: str,
    settings: DataSettings,
    *,
    count_tokens: CountTokens,
    seed: int = 0,
    subset: bool = False,
) -> Examples:
    """The examples of a split (``sft``, ``grpo`` or ``test``) of the MIXTURE in ``folder`` that fit the settings.

    ``subset``: only rows that MIXTURE marks for GRPO. With ``settings.limit`` that many are drawn, evenly by type as
    far as they go. Raises PoolError where nothing is left, with the reasons.
    """
    rows = [row for row in load_mixture(folder) if row.split == split]
    if not rows:
        raise PoolError(f"{folder}: no row of the split {split!r}; lm-mixup mixture stats {folder} shows what is there")
    left_out: dict[str, int] = {}
    kept: list[Example] = []
    for row in rows:
        example = _example(row, settings)
        reason = _reason(row, settings, subset) or (
            "too-long" if count_tokens(example.prompt, example.completion) > settings.max_tokens else ""
        )
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            kept.append(example)
    if not kept:
        raise PoolError(f"{folder}: no row of the split {split!r} is left: {left_out}; see data.* of the recipe")
    random.Random(f"{seed}:{split}").shuffle(kept)
    if settings.limit is not None and len(kept) > settings.limit:
        left_out["limit"] = len(kept) - settings.limit
        kept = _evenly(kept, settings.limit)
    return Examples(tuple(kept), dict(sorted(left_out.items())))


def token_counter(tokenizer: Any) -> Callable[..., int]:
    """Counts the tokens of a prompt with its answer, chat template included."""

    def count(prompt: Any, completion: str) -> int:
        turns = [*prompt, {"role": "assistant", "content": completion}]
        return len(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"])

    return count


def _example(row: Row, settings: DataSettings) -> Example:
    task_type = TaskType(row.task_type)
    return Example(
        id=row.id,
        task_type=task_type,
        prompt=compact(task_type, row.variants),
        completion=completion(row.output, row.cot if settings.cot == "full" else ""),
        reference=row.output,
        variants=row.variants,
        group=row.group,
    )


def _reason(row: Row, settings: DataSettings, subset: bool) -> str:
    if row.task_type not in settings.types:
        return "other-type"
    if not settings.min_variants <= len(row.variants) <= settings.max_variants:
        return "other-number-of-variants"
    return "not-in-subset" if subset and row.in_subset is False else ""


def _evenly(kept: Sequence[Example], limit: int) -> list[Example]:
    """The first rows of each type in turn, in their order; a type that runs out leaves its place to the others."""
    turn: dict[TaskType, int] = {}
    places = []
    for number, example in enumerate(kept):
        turn[example.task_type] = turn.get(example.task_type, 0) + 1
        places.append((turn[example.task_type], number))
    return [kept[number] for number in sorted(number for _, number in sorted(places)[:limit])]
