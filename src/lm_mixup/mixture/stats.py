"""What a built MIXTURE is like, in figures: read off the rows alone, so that anyone can work them out again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
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


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """All figures, JSON-able."""
    return {
        "rows": len(rows),
        "variants": sum(len(r.variants) for r in rows),
        "by_type_and_split": {
            t: {s: sum(r.task_type == t and r.split == s for r in rows) for s in SPLITS} for t in TYPES
        },
        "in_grpo_subset": {t: sum(r.task_type == t and bool(r.in_subset) for r in rows) for t in TYPES},
        "variants_per_target": _per_type(rows, lambda r: len(r.variants)),
        "output_words": _per_type(rows, lambda r: len(r.output.split())),
        "input_words": _per_type(rows, lambda r: len(r.input.split())),
        "ratings": _ratings(rows),
        "coverage": _coverage(rows),
        "overlap": _overlap(rows),
        "format": _format(rows),
        "groups": {s: len({g for r in rows if r.split == s for g in r.group.split("\n")}) for s in SPLITS},
        "shared_groups": shared_groups(rows),
        "rated_below_target": rated_below(rows),
        "sources": dict(sorted(Counter(r.source for r in rows).items())),
    }


def shared_groups(rows: Iterable[Row]) -> int:
    """Groups that stand in more than one split: 0 in a sound data set."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for group in row.group.split("\n"):
            if group:
                splits[group].add(row.split)
    return sum(len(found) > 1 for found in splits.values())


def rated_below(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float | int]]]:
    """Degrader → type → how many of its variants were rated, and the share (0–1) rated below their target.

    Only variants of one degrader alone count; those with surface noise count apart, as "DEGRADER, noisy".
    ``length_matched`` is the share rated below the mean of the five targets of the type that are nearest to
    the variant in words: what is left when a rater merely follows length.
    ``points`` is the mean of target minus variant.
    """
    out: dict[str, dict[str, dict[str, float | int]]] = {}
    for task_type in TYPES:
        of_type = [r for r in rows if r.task_type == task_type and r.rating is not None]
        if not of_type:
            continue
        words = np.array([len(r.output.split()) for r in of_type])
        order = np.argsort(words, kind="stable")
        words, ratings = words[order], np.array([r.rating for r in of_type], np.float64)[order]
        pairs: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for row in of_type:
            known = zip(row.variants, row.degraders, row.noise, row.variant_ratings, strict=False)
            for text, name, noise, rating in known:
                if rating is not None and name and "+" not in name:
                    name = f"{name}, noisy" if noise else name
                    matched = _nearest_in_length(len(text.split()), words, ratings)
                    pairs[name].append((float(row.rating or 0.0), rating, matched))
        for name, found in pairs.items():
            target, variant, matched_ = (np.array(column) for column in zip(*found, strict=True))
            out.setdefault(name, {})[task_type] = {
                "variants": len(found),
                "below": round(float((variant < target).mean()), 4),
                "length_matched": round(float((variant < matched_).mean()), 4),
                "points": round(float((target - variant).mean()), 3),
            }
    return dict(sorted(out.items()))


def _nearest_in_length(length: int, words: Any, ratings: Any) -> float:
    at = int(np.searchsorted(words, length))
    first = max(0, min(at - MATCHED // 2, len(words) - MATCHED))
    return float(ratings[first : first + MATCHED].mean())


def _per_type(rows: Sequence[Row], of: Callable[[Row], float]) -> dict[str, dict[str, float]]:
    out = {}
    for task_type in TYPES:
        values = np.array([of(r) for r in rows if r.task_type == task_type], np.float64)
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


def _ratings(rows: Sequence[Row]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for task_type in TYPES:
        targets = [r.rating for r in rows if r.task_type == task_type and r.rating is not None]
        variants = [v for r in rows if r.task_type == task_type for v in r.variant_ratings if v is not None]
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


def _coverage(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    out = {}
    for task_type in TYPES:
        values = np.array([r.coverage for r in rows if r.task_type == task_type and r.coverage is not None])
        if len(values):
            shares = {
                f"share_at_least_{line:g}": round(float((values >= line - 1e-6).mean()), 4) for line in (0.8, 0.9, 1.0)
            }
            out[task_type] = {"mean": round(float(values.mean()), 4), **shares}
    return out


def _overlap(rows: Sequence[Row]) -> dict[str, float]:
    """Type → how much the variants of a row have in common: mean Jaccard of the content words of its pairs."""
    out = {}
    for task_type in TYPES:
        chosen = sorted((r for r in rows if r.task_type == task_type), key=lambda r: r.id[::-1])[:OVERLAP_SAMPLE]
        values = []
        for row in chosen:
            sets = [content_words(v) for v in row.variants]
            pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :] if a | b]
            values += [len(a & b) / len(a | b) for a, b in pairs]
        if values:
            out[task_type] = round(float(np.mean(values)), 4)
    return out


def _format(rows: Sequence[Row]) -> dict[str, float]:
    """Type → share of outputs, and of variants, that have their type's form."""
    good = Counter[str]()
    total = Counter[str]()
    for row in rows:
        for name, text in [("outputs", row.output), *(("variants", v) for v in row.variants)]:
            total[name] += 1
            good[name] += parse(TaskType(row.task_type), text) is not None
    return {name: round(good[name] / total[name], 6) for name in total}
