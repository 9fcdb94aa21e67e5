"""What a built MIXTURE is like, in figures: read off the rows alone, so that anyone can work them out again.

One pass over the rows; of each only numbers are kept, and the texts of a few hundred.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.mixture.rows import SPLITS, Row
from lm_mixup.records import TaskType, rating_class
from lm_mixup.task_types import parse

TYPES = tuple(str(t) for t in TaskType)
MATCHED = 5
"""A variant is compared with so many targets of its type that are nearest to it in length."""
OVERLAP_SAMPLE = 400
LENGTH_EDGES = (25, 50, 75, 100, 150, 200, 300)
"""Where the bars of the figure of lengths part, in words of the output."""


@dataclass(frozen=True, slots=True)
class _Brief:
    """The numbers of a row. ``rated`` are a rated variant's (degrader, words, rating)."""

    task_type: str
    split: str
    variants: int
    output_words: int
    input_words: int
    rating: float | None
    rated: tuple[tuple[str, int, float], ...]
    variant_ratings: tuple[float, ...]
    coverage: float | None


def describe(rows: Iterable[Row]) -> dict[str, Any]:
    """All figures, JSON-able."""
    briefs: list[_Brief] = []
    sources: Counter[str] = Counter()
    degraders: Counter[str] = Counter()
    noise: Counter[str] = Counter()
    in_form: Counter[str] = Counter()
    in_subset: Counter[str] = Counter()
    groups: dict[str, set[str]] = defaultdict(set)
    overlap = _Overlap()
    for row in rows:
        briefs.append(_brief(row))
        sources[row.source] += 1
        degraders.update(name for names in row.degraders for name in names.split("+") if name)
        noise.update(kind for kinds in row.noise for kind in (kinds.split("+") if kinds else ["none"]))
        in_form["outputs"] += parse(TaskType(row.task_type), row.output) is not None
        in_form["variants"] += sum(parse(TaskType(row.task_type), v) is not None for v in row.variants)
        in_subset[row.task_type] += bool(row.in_subset)
        for group in filter(None, row.group.split("\n")):
            groups[group].add(row.split)
        overlap.add(row)
    totals = {"outputs": len(briefs), "variants": sum(b.variants for b in briefs)}
    by = Counter((b.task_type, b.split) for b in briefs)
    lengths = Counter(sum(b.output_words >= edge for edge in LENGTH_EDGES) for b in briefs)
    counts = Counter(b.variants for b in briefs)
    return {
        "rows": len(briefs),
        "variants": totals["variants"],
        "by_type_and_split": {t: {s: by[t, s] for s in SPLITS} for t in TYPES},
        "in_grpo_subset": {t: in_subset[t] for t in TYPES},
        "variants_per_target": _per_type(briefs, lambda b: b.variants),
        "rows_by_variants": {str(n): counts[n] for n in sorted(counts)},
        "output_words": _per_type(briefs, lambda b: b.output_words),
        "rows_by_output_words": [lengths[n] for n in range(len(LENGTH_EDGES) + 1)],
        "input_words": _per_type(briefs, lambda b: b.input_words),
        "ratings": _ratings(briefs),
        "coverage": _coverage(briefs),
        "overlap": overlap.means(),
        "format": {name: round(in_form[name] / total, 6) for name, total in totals.items() if total},
        "groups": {s: sum(s in splits for splits in groups.values()) for s in SPLITS},
        "shared_groups": sum(len(splits) > 1 for splits in groups.values()),
        "rated_below_target": _rated_below(briefs),
        "variants_by_degrader": dict(degraders.most_common()),
        "variants_by_noise": dict(noise.most_common()),
        "sources": dict(sorted(sources.items())),
    }


def shared_groups(rows: Iterable[Row]) -> int:
    """Groups that stand in more than one split: 0 in a sound data set."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for group in filter(None, row.group.split("\n")):
            splits[group].add(row.split)
    return sum(len(found) > 1 for found in splits.values())


def _brief(row: Row) -> _Brief:
    known = zip(row.variants, row.degraders, row.noise, row.variant_ratings, strict=False)
    rated = tuple(
        (f"{name}, noisy" if noise else name, len(text.split()), rating)
        for text, name, noise, rating in known
        if rating is not None and name and "+" not in name
    )
    return _Brief(
        row.task_type,
        row.split,
        len(row.variants),
        len(row.output.split()),
        len(row.input.split()),
        row.rating,
        rated,
        tuple(v for v in row.variant_ratings if v is not None),
        row.coverage,
    )


def _rated_below(briefs: Sequence[_Brief]) -> dict[str, dict[str, dict[str, float | int]]]:
    """Degrader → type → how many of its variants were rated, and the share (0–1) rated below their target.

    Only variants of one degrader alone count; those with surface noise count apart, as "DEGRADER, noisy".
    ``length_matched`` is the share rated below the mean of the five targets of the type that are nearest to
    the variant in words: what is left when a rater merely follows length.
    ``points`` is the mean of target minus variant.
    """
    out: dict[str, dict[str, dict[str, float | int]]] = {}
    for task_type in TYPES:
        of_type = [(b, b.rating) for b in briefs if b.task_type == task_type and b.rating is not None]
        if not of_type:
            continue
        words = np.array([b.output_words for b, _ in of_type])
        order = np.argsort(words, kind="stable")
        words, ratings = words[order], np.array([rating for _, rating in of_type], np.float64)[order]
        pairs: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for brief, target in of_type:
            for name, length, rating in brief.rated:
                pairs[name].append((target, rating, _nearest_in_length(length, words, ratings)))
        for name, found in pairs.items():
            targets, variants, matched = (np.array(column) for column in zip(*found, strict=True))
            out.setdefault(name, {})[task_type] = {
                "variants": len(found),
                "below": round(float((variants < targets).mean()), 4),
                "length_matched": round(float((variants < matched).mean()), 4),
                "points": round(float((targets - variants).mean()), 3),
            }
    return dict(sorted(out.items()))


def _nearest_in_length(length: int, words: Any, ratings: Any) -> float:
    at = int(np.searchsorted(words, length))
    first = max(0, min(at - MATCHED // 2, len(words) - MATCHED))
    return float(ratings[first : first + MATCHED].mean())


def _per_type(briefs: Sequence[_Brief], of: Callable[[_Brief], float]) -> dict[str, dict[str, float]]:
    out = {}
    for task_type in TYPES:
        values = np.array([of(b) for b in briefs if b.task_type == task_type], np.float64)
        if len(values):
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            out[task_type] = {
                "mean": round(float(values.mean()), 2),
                "least": float(values.min()),
                "p5": float(low),
                "median": float(middle),
                "p95": float(high),
                "most": float(values.max()),
            }
    return out


def _ratings(briefs: Sequence[_Brief]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for task_type in TYPES:
        targets = [b.rating for b in briefs if b.task_type == task_type and b.rating is not None]
        variants = [v for b in briefs if b.task_type == task_type for v in b.variant_ratings]
        if targets:
            out[task_type] = {
                "targets": _classes(targets),
                "targets_mean": round(float(np.mean(targets)), 3),
                "variants": _classes(variants),
                "variants_mean": round(float(np.mean(variants)), 3) if variants else None,
            }
    return out


def _classes(ratings: Sequence[float]) -> list[float]:
    counts = Counter(rating_class(r) for r in ratings)
    return [round(counts[c] / len(ratings), 4) for c in range(6)] if ratings else []


def _coverage(briefs: Sequence[_Brief]) -> dict[str, dict[str, float]]:
    out = {}
    for task_type in TYPES:
        values = np.array([b.coverage for b in briefs if b.task_type == task_type and b.coverage is not None])
        if len(values):
            shares = {
                f"share_at_least_{line:g}": round(float((values >= line - 1e-6).mean()), 4) for line in (0.8, 0.9, 1.0)
            }
            out[task_type] = {"mean": round(float(values.mean()), 4), **shares}
    return out


class _Overlap:
    """How much the variants of a row have in common: the mean Jaccard of the content words of its pairs.

    Of each type a few hundred rows are looked at: those whose ids, read backwards, come first.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)

    def add(self, row: Row) -> None:
        held = self._rows[row.task_type]
        held.append((row.id[::-1], row.variants))
        if len(held) >= 4 * OVERLAP_SAMPLE:
            self._rows[row.task_type] = sorted(held)[:OVERLAP_SAMPLE]

    def means(self) -> dict[str, float]:
        out = {}
        for task_type in TYPES:
            values = []
            for _, variants in sorted(self._rows[task_type])[:OVERLAP_SAMPLE]:
                sets = [content_words(v) for v in variants]
                pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :] if a | b]
                values += [len(a & b) / len(a | b) for a, b in pairs]
            if values:
                out[task_type] = round(float(np.mean(values)), 4)
        return out
