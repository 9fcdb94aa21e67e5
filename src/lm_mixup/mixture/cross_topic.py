"""Step 4: two targets of one type and near in meaning become one target over two topics. METHOD § 2 (4).

Its variants are those of both, mixed, so that the task is to tell what belongs together and to say all of it. Only
``qa``, ``cs`` and ``para`` have a form with room for two topics; a multiple-choice or true/false item asks one thing.
Pairs are made inside a split, or an article would stand on both sides of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lm_mixup.distillers.facts import facts_of, facts_of_all
from lm_mixup.mixture.degrade import Degraded
from lm_mixup.mixture.material import Target, Variant
from lm_mixup.mixture.write import target_id
from lm_mixup.neighbors import build
from lm_mixup.ports import Vectors
from lm_mixup.records import TaskType
from lm_mixup.task_types import CS, QA, Item, Para, parse, render

TYPES = (TaskType.QA, TaskType.CS, TaskType.PARA)


class CrossTopic:
    """Merges pairs of targets.

    ``share`` of the targets of each type go into pairs. A pair's cosine lies within ``near``–``same``: nearer ones say
    the same thing, farther ones have nothing to do with each other. The two are of different articles. At most
    ``max_words`` words come out; at most ``max_variants`` variants are kept, of each half as many.
    """

    def __init__(
        self,
        *,
        share: float = 0.06,
        near: float = 0.35,
        same: float = 0.85,
        max_words: int = 240,
        max_variants: int = 20,
        max_input_words: int = 1400,
        seed: int = 0,
    ) -> None:
        self._share = share
        self._near, self._same = near, same
        self._max_words = max_words
        self._max_variants = max_variants
        self._max_input_words = max_input_words
        self._seed = seed

    def pairs(self, targets: Sequence[Target], vectors: Vectors, splits: Sequence[str]) -> list[tuple[int, int]]:
        """Pairs of positions, each target in one pair at most, in order of their first; ``vectors`` (n, dim)."""
        out: list[tuple[int, int]] = []
        for task_type in TYPES:
            for split in sorted(set(splits)):
                rows = [i for i, t in enumerate(targets) if t.task_type == task_type and splits[i] == split]
                out += self._pairs_among(rows, targets, vectors)
        return sorted(out)

    def _pairs_among(self, rows: list[int], targets: Sequence[Target], vectors: Vectors) -> list[tuple[int, int]]:
        wanted = round(self._share * len(rows) / 2)
        if wanted < 1 or len(rows) < 4:
            return []
        graph = build(np.ascontiguousarray(vectors[rows]), 16)
        order = list(range(len(rows)))
        random.Random(f"cross:{self._seed}:{targets[rows[0]].task_type}").shuffle(order)
        taken: set[int] = set()
        out: list[tuple[int, int]] = []
        for a in order:
            if len(out) >= wanted:
                break
            if a in taken:
                continue
            for b, cosine in zip(graph.ids[a].tolist(), graph.similarities[a].tolist(), strict=True):
                if b in taken or not self._near <= cosine <= self._same:
                    continue
                first, second = sorted((rows[a], rows[b]))
                if self._fit(targets[first], targets[second]):
                    taken |= {a, b}
                    out.append((first, second))
                    break
        return out

    def _fit(self, a: Target, b: Target) -> bool:
        apart = not set(a.groups) & set(b.groups) and (not a.topic or a.topic.casefold() != b.topic.casefold())
        return apart and sum(len(render(t.item).split()) for t in (a, b)) <= self._max_words

    def merge(self, a: Degraded, b: Degraded) -> Degraded | None:
        """The one target of two, with the variants of both in a random order; None where its form does not hold."""
        item = joined(a.target.item, b.target.item)
        task_type = a.target.task_type
        if item is None or parse(task_type, render(item)) is None:
            return None
        parts = (a.target, b.target)
        target = Target(
            target_id(task_type, render(item)),
            item,
            tuple(sorted({*a.target.groups, *b.target.groups})),
            a.target.source if a.target.source == b.target.source else f"{a.target.source}+{b.target.source}",
            " and ".join(filter(None, (a.target.topic, b.target.topic))),
            parts,
        )
        rng = random.Random(f"cross-variants:{self._seed}:{target.id}")
        # what each variant holds of its own part is known; the second part's facts are numbered after the first's
        behind = len(facts_of(a.target.item))
        variants = [*self._half(a), *(_moved(v, behind) for v in self._half(b))]
        rng.shuffle(variants)
        facts = facts_of_all(target.whole)
        held = frozenset[int]().union(*(v.holds for v in variants))
        return Degraded(target, tuple(variants), len(held) / len(facts))

    def _half(self, one: Degraded) -> list[Variant]:
        """As many variants as half an input holds: those first that hold what the ones before do not."""
        left = list(one.variants)
        held: frozenset[int] = frozenset()
        words, out = 0, list[Variant]()
        while left and len(out) < self._max_variants // 2:
            best = max(left, key=lambda v: (len(v.holds - held), -one.variants.index(v)))
            left.remove(best)
            words += len(render(best.item).split())
            if out and words > self._max_input_words // 2 and best.holds <= held:
                break
            out.append(best)
            held |= best.holds
        return out


def joined(a: Item, b: Item) -> Item | None:
    """One item over both topics; None for types that have no room for two."""
    match a, b:
        case QA(), QA():
            return QA(f"{a.question} {_also(b.question)}", f"{a.answer} {b.answer}")
        case CS(), CS():
            return CS(f"{a.category}; {b.category}", f"{a.statement} {b.statement}")
        case Para(), Para():
            topics = [p.request.rpartition(": ")[2] for p in (a, b) if ": " in p.request]
            request = f"Write a paragraph on the following topics: {'; '.join(topics)}" if len(topics) == 2 else ""
            return Para(f"{a.text} {b.text}", request)
    return None


def _also(question: str) -> str:
    first, _, rest = question.partition(" ")
    asks = first.casefold() in {
        "who", "what", "which", "when", "where", "why", "how", "is", "are", "was", "were", "do", "does", "did", "can",
        "could", "will", "would", "has", "have", "had", "should", "may", "in", "on", "at", "by", "for", "to", "from",
    }  # fmt: skip
    return f"And {first.lower()} {rest}" if asks else question


def _moved(variant: Variant, behind: int) -> Variant:
    def moved(numbers: frozenset[int]) -> frozenset[int]:
        return frozenset(n + behind for n in numbers)

    parts = {name: moved(getattr(variant, name)) for name in ("holds", "blurred", "wrong")}
    return replace(variant, **parts)  # type: ignore[arg-type]
