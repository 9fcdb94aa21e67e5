"""Rows of MIXTURE put together as a pool's clusters are: on like subjects, and not on one question. Ours.

The variants in a row of MIXTURE are of one target. The rows of a pool's cluster only resemble each other, and a model
that has never met such clusters takes one question of several, or answers one with what was said to another. So a
mixed row holds variants of two or three targets, and what it asks for is what extraction asks for, cleanly: of targets
that extraction joins, what it makes of them undamaged; where it takes one of them, that one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations

from lm_mixup.distillers.drafts import cluster_of
from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.facts import Keeper, facts_of
from lm_mixup.distillers.lm import estimate_tokens
from lm_mixup.mixture.rows import Row, make_row
from lm_mixup.records import Distillate, TaskType, digest
from lm_mixup.task_types import parse

_LOOKED_AT = 60
"""Rows among which the one that shares most words is looked for: like subjects, and not always the likest."""
_THIRD = 1 / 3
"""Share of mixed rows that are put together from three."""
_ALIKE = 0.6
"""The draft and what is asked for must share so large a part of their words in order: the one is the other, damaged."""
_SAID = 0.9
"""Share of a target's content words that its variants must have: one variant says what only its fellows would mend."""
_FEW = 5
"""Added to the number of words when two rows are compared: two words shared by short texts make no subject."""
_TRIES = 100
"""Times as many are tried as are wanted, at most."""


@dataclass(frozen=True, slots=True)
class _Part:
    row: Row
    words: frozenset[str]


def mixed(rows: Sequence[Row], count: int, *, max_variants: int, max_tokens: int, seed: int = 0) -> list[Row]:
    """At most ``count`` rows, each put together from two or three of ``rows`` of one type.

    Each has at most ``max_variants`` variants, and they hold all the facts of what it asks for; with the draft and the
    answer they have about ``max_tokens`` tokens at most. ``qa``, which most of a pool is, gets twice the share of
    another type, and at least half of its rows are such as extraction joins, as long as there are any. Fewer rows come
    back where not so many are found. The same seed, the same rows.
    """
    by_type: dict[str, list[_Part]] = {}
    for row in rows:
        by_type.setdefault(row.task_type, []).append(_Part(row, content_words(row.output)))
    kinds = sorted(kind for kind, parts in by_type.items() if len(parts) > 1)
    shares = {kind: 2 if kind == TaskType.QA else 1 for kind in kinds}
    rng = random.Random(f"{seed}:mixed")
    out: list[Row] = []
    for kind in kinds:
        wanted = round(count * shares[kind] / sum(shares.values()))
        out += _mixed(by_type[kind], wanted, max_variants, max_tokens, rng)
    return out


def _mixed(parts: Sequence[_Part], count: int, max_variants: int, max_tokens: int, rng: random.Random) -> list[Row]:
    found: dict[str, Row] = {}
    surplus = 0  # questions of which one was taken, less those that were joined
    for _ in range(count * _TRIES):
        if len(found) >= count:
            break
        made = _mix(_near(parts, rng), max_variants, max_tokens, rng)
        if made is None or made[0].id in found:
            continue
        row, joined = made
        if row.task_type == TaskType.QA:
            if not joined and surplus > 0:
                continue
            surplus += -1 if joined else 1
        found[row.id] = row
    return list(found.values())


def _near(parts: Sequence[_Part], rng: random.Random) -> list[Row]:
    """A row, and one or two others that share many words with it."""
    first = rng.choice(parts)
    others = [part for part in rng.sample(parts, min(_LOOKED_AT, len(parts))) if part.row.id != first.row.id]
    others.sort(key=lambda part: -len(part.words & first.words) / (_FEW + min(len(part.words), len(first.words))))
    return [first.row, *(part.row for part in others[: 2 if rng.random() < _THIRD else 1])]


def _mix(rows: Sequence[Row], max_variants: int, max_tokens: int, rng: random.Random) -> tuple[Row, bool] | None:
    """The rows as one, and whether it asks for more than one of them.

    None where the variants say too little, or the draft is not what is asked for, damaged.
    """
    texts = [(row, text) for row in rows for text in _enough(row, rng)]
    if len({row.id for row, _ in texts}) < len(rows) or len(rows) < 2 or len(texts) > max_variants:
        return None
    if sum(estimate_tokens(text) for _, text in texts) > max_tokens:
        return None
    rng.shuffle(texts)
    task_type, variants = TaskType(rows[0].task_type), [text for _, text in texts]
    id = f"mixed-{digest(sorted(variants))[:16]}"
    cluster = cluster_of(id, task_type, variants)
    draft = ExtractiveDistiller().distill([cluster])[0]
    if not isinstance(draft, Distillate):
        return None
    used = {row.id: row for sample, (row, _) in zip(cluster.samples, texts, strict=True) if sample.id in draft.used_ids}
    output = _clean(used, id, task_type)
    if output is None or SequenceMatcher(None, draft.answer.split(), output.split(), autojunk=False).ratio() < _ALIKE:
        return None
    if sum(map(estimate_tokens, [*variants, draft.answer, output])) > max_tokens:
        return None
    group = "\n".join(row.group for row in rows)
    return make_row(task_type, variants, output, id=id, group=group, split=rows[0].split), len(used) > 1


def _clean(rows: dict[str, Row], id: str, task_type: TaskType) -> str | None:
    """What extraction makes of the rows' targets; None where it does not take all of them."""
    outputs = [row.output for row in rows.values()]
    if len(outputs) == 1:
        return outputs[0]
    made = ExtractiveDistiller().distill([cluster_of(id, task_type, outputs)])[0]
    return made.answer if isinstance(made, Distillate) and len(made.used_ids) == len(outputs) else None


def _enough(row: Row, rng: random.Random) -> list[str]:
    """One or two variants of a row that hold all its facts, each with its answer; none where there are no such."""
    item = parse(TaskType(row.task_type), row.output)
    if item is None:
        return []
    facts, words = facts_of(item), content_words(row.output)
    keeper = Keeper(facts)
    answers = {number for number, fact in enumerate(facts) if fact.part == "answer"}
    held = {text: keeper.held(text) for text in row.variants}
    right = [text for text in rng.sample(row.variants, len(row.variants)) if answers <= held[text]]
    for size in (1, 2):
        for chosen in combinations(right, size):
            all_held = frozenset[int]().union(*(held[text] for text in chosen))
            said = len(words & content_words(" ".join(chosen)))
            if len(all_held) == len(facts) and said >= _SAID * len(words):
                return list(chosen)
    return []
