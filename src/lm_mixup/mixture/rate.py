"""Step 6: targets and variants rated, and targets below the line left out. METHOD § 2 (2).

The line of the paper (overall ≥ 4 by a strong judge) is an absolute one. The embedded learned rater learned its scale
on long-form answers, so that it calls few short items high whatever their worth: an absolute line would keep paragraphs
alone. The default line is therefore relative: the worst-rated share of each task type goes. ``docs/mixture.md`` has the
figures for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm_mixup.mixture.degrade import Degraded
from lm_mixup.mixture.material import sample_of
from lm_mixup.ports import Rater
from lm_mixup.records import Failure, Sample, TaskType, digest

BATCH = 2048


@dataclass(frozen=True, slots=True)
class Line:
    """What a target must be rated to be kept: at least ``at_least``, or not among the worst ``drop_share`` of its type.

    Both may be given; a target must pass both. None and 0 let everything pass.
    """

    at_least: float | None = None
    drop_share: float = 0.1

    def passes(self, task_types: Sequence[TaskType], ratings: Sequence[float | None]) -> list[bool]:
        """Whether each target passes; one without a rating passes nothing."""
        floors = {t: self._floor([r for u, r in zip(task_types, ratings, strict=True) if u == t]) for t in TaskType}
        return [r is not None and r >= floors[t] for t, r in zip(task_types, ratings, strict=True)]

    def _floor(self, ratings: Sequence[float | None]) -> float:
        known = [r for r in ratings if r is not None]
        floor = self.at_least if self.at_least is not None else 0.0
        if known and self.drop_share > 0:
            floor = max(floor, float(np.quantile(np.array(known), self.drop_share)))
        return floor


def rate_all(rater: Rater, samples: Sequence[Sample]) -> list[float | None]:
    """One rating a sample, None where it failed. In batches, so that what was embedded is kept if this is stopped."""
    out: list[float | None] = []
    for start in range(0, len(samples), BATCH):
        said = rater.rate(samples[start : start + BATCH])
        out += [None if isinstance(one, Failure) else one.value for one in said]
    return out


def variants_as_samples(made: Degraded) -> list[Sample]:
    """The variants of one target as samples."""
    return [sample_of(f"{made.target.id}/{n}", v.item, made.target.source) for n, v in enumerate(made.variants)]


def to_be_rated(made: Sequence[Degraded], per_type: int | None, *, seed: int = 0) -> list[bool]:
    """Whose variants are rated: of each type ``per_type`` targets by lot (None: all), for rating them all is costly."""
    if per_type is None:
        return [True] * len(made)
    out = [False] * len(made)
    for task_type in TaskType:
        rows = [i for i, one in enumerate(made) if one.target.task_type == task_type]
        rows.sort(key=lambda i: digest([seed, made[i].target.id]))
        for row in rows[:per_type]:
            out[row] = True
    return out
