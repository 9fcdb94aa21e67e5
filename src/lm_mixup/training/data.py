"""Rows of MIXTURE as examples for training: a prompt, and what the model is to say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_mixup.distillers.drafts import draft_of
from lm_mixup.errors import PoolError, RecipeError
from lm_mixup.mixture.load import load_mixture
from lm_mixup.mixture.rows import Row, articles_of
from lm_mixup.prompts import Messages
from lm_mixup.prompts.compact import compact, compact_digest, completion
from lm_mixup.records import TaskType, digest
from lm_mixup.training.mixed import mixed
from lm_mixup.training.recipe import DataSettings

CountTokens = Callable[[Messages, str], int]
"""Tokens of a prompt and its answer, chat template and all."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row: ``prompt`` in, ``completion`` out. ``reference`` is the answer's content, ``draft`` is in the prompt."""

    id: str
    task_type: TaskType
    prompt: Messages
    completion: str
    reference: str
    variants: tuple[str, ...]
    group: str
    draft: str | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples, in the order of training data, and how many rows were left out for which reason."""

    examples: tuple[Example, ...]
    left_out: dict[str, int]

    @property
    def digest(self) -> str:
        """A hash of all that a model learns from, in order."""
        drafts = any(e.draft is not None for e in self.examples)
        learned = ([e.id, *e.variants, *([] if e.draft is None else [e.draft]), e.completion] for e in self.examples)
        return digest([compact_digest(drafts=drafts), *learned])

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
    far as they go; ``settings.mixed`` of them are put together from several (:mod:`lm_mixup.training.mixed`). Raises
    PoolError where nothing is left, with the reasons, and RecipeError for mixed rows without drafts.
    """
    rows = [row for row in load_mixture(folder) if row.split == split]
    if not rows:
        raise PoolError(f"{folder}: no row of the split {split!r}; lm-mixup mixture stats {folder} shows what is there")
    if settings.mixed and not settings.drafts:
        raise RecipeError("data.mixed: rows that are put together ask for what their drafts hold: set data.drafts, too")
    left_out: Counter[str] = Counter()

    def fitting(rows: Sequence[Row]) -> list[Example]:
        made = [_example(row, settings) for row in rows]
        kept = [e for e in made if count_tokens(e.prompt, e.completion) <= settings.max_tokens]
        left_out.update({"too-long": len(made) - len(kept)})
        random.Random(f"{seed}:{split}").shuffle(kept)
        return kept

    reasons = [_reason(row, settings, subset) for row in rows]
    left_out.update(reason for reason in reasons if reason)
    inside = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    kept, limit = fitting(inside), settings.limit
    if limit is not None:
        limit -= round(limit * settings.mixed)
        left_out["limit"] = max(0, len(kept) - limit)
        kept = _evenly(kept, limit)
    if settings.mixed:
        count = round(len(kept) * settings.mixed / (1 - settings.mixed))
        widest = {"max_variants": settings.max_variants, "max_tokens": settings.max_tokens}
        kept += fitting(mixed(inside, count, **widest, seed=seed))
        random.Random(f"{seed}:{split}").shuffle(kept)
    left_out = +left_out
    if not kept:
        raise PoolError(f"{folder}: no row of the split {split!r} is left: {dict(left_out)}; see data.* of the recipe")
    return Examples(tuple(kept), dict(sorted(left_out.items())))


def token_counter(tokenizer: Any) -> Callable[..., int]:
    """Counts the tokens of a prompt with its answer, chat template included."""

    def count(prompt: Any, completion: str) -> int:
        turns = [*prompt, {"role": "assistant", "content": completion}]
        return len(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"])

    return count


def _example(row: Row, settings: DataSettings) -> Example:
    task_type = TaskType(row.task_type)
    draft = draft_of(task_type, row.variants) if settings.drafts else None
    return Example(
        id=row.id,
        task_type=task_type,
        prompt=compact(task_type, row.variants, draft),
        completion=completion(row.output, row.cot if settings.cot == "full" else ""),
        reference=row.output,
        variants=row.variants,
        group=row.group,
        draft=draft,
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
