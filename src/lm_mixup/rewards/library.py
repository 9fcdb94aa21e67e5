"""A rated library for the quality reward, made of MIXTURE's own texts: good ones and poor ones of each task type."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lm_mixup.errors import RatingsError
from lm_mixup.mixture.rows import Row
from lm_mixup.ports import Embedder
from lm_mixup.raters.library import LibrarySettings, RatedLibrary, build
from lm_mixup.raters.training import ranks
from lm_mixup.records import RATING_MAX, Failure, Sample, TaskType
from lm_mixup.rewards.answers import answer_sample
from lm_mixup.rewards.quality import VectorRater

PAPERS = LibrarySettings(temper=False)
"""METHOD § 3 [R] to the letter, temperature 1. A tempered posterior is honest about how little a neighbour knows, and
its mean then hardly moves: as a reward it tells next to nothing apart (figures in ``docs/rewards.md``)."""

Scale = Literal["within-type", "absolute"]


def mixture_library(
    rows: Sequence[Row],
    embedder: Embedder,
    rater: VectorRater,
    *,
    split: str = "sft",
    per_type: int = 2000,
    scale: Scale = "within-type",
    settings: LibrarySettings = PAPERS,
    seed: int = 0,
) -> RatedLibrary:
    """A library of up to ``per_type`` texts of each task type from a split of MIXTURE, half targets and half variants.

    Each text is embedded and rated as the sample that it becomes, so an ``mcq`` keeps its answer line, as rollouts do.
    ``rater`` is shown the same vectors (``raters.learned.reward_rater``: then gpt-4o-mini's ratings, which the judge
    learned from, play no part). ``scale``: ``within-type`` replaces a rating by its place among those of its type,
    spread evenly over 0–5, for a rater that learned on long answers rates a whole type low; ``absolute`` keeps it.
    The same arguments give the same library. Types with no more than k texts are left out.

    Raises RatingsError where no type has enough texts, or the rater fails on one.
    """
    samples = [sample for kind in TaskType for sample in _texts(rows, kind, split, per_type, settings.neighbors, seed)]
    if not samples:
        raise RatingsError(
            f"rated library: expected more than k = {settings.neighbors} texts of some task type in the split "
            f"{split!r} of MIXTURE, got none among {len(rows)} rows"
        )
    vectors = embedder.embed([sample.text for sample in samples])
    ratings = np.empty(len(samples))
    for i, (sample, rated) in enumerate(zip(samples, rater.rate_with_vectors(samples, vectors), strict=True)):
        if isinstance(rated, Failure):
            raise RatingsError(f"rated library: {sample.id} could not be rated: {rated.reason}: {rated.detail}")
        ratings[i] = rated.value
    if scale == "within-type":
        kinds = np.array([sample.task_type for sample in samples])
        for kind in set(kinds.tolist()):
            part = kinds == kind
            ratings[part] = RATING_MAX * (ranks(ratings[part]) - 0.5) / part.sum()
    name = f"{rater.key}, {scale}"
    return build(samples, ratings.tolist(), vectors, embedder=embedder.key, rater=name, settings=settings)


def _texts(rows: Sequence[Row], kind: TaskType, split: str, count: int, least: int, seed: int) -> list[Sample]:
    """Different targets and variants of a type as samples, in the order of a lot; none where there are too few."""
    chosen = [row for row in rows if row.task_type == kind and row.split == split]
    random.Random(f"library:{seed}:{kind}").shuffle(chosen)
    targets = dict.fromkeys(row.output for row in chosen[: (count + 1) // 2])
    # first one variant of each target, then a second one of each, …
    turns = max((len(row.variants) for row in chosen), default=0)
    poor = dict.fromkeys(
        row.variants[turn]
        for turn in range(turns)
        for row in chosen[: (count + 1) // 2]
        if turn < len(row.variants) and row.variants[turn] not in targets
    )
    texts = [*targets, *list(poor)[: count // 2]]
    samples = {s.digest: s for n, text in enumerate(texts) for s in [answer_sample(f"{kind}-{n}", kind, text)]}
    return list(samples.values()) if len(samples) > least else []
