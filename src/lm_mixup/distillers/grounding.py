"""Grounding: whether an answer says nothing that no source supports. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from lm_mixup.distillers.support import Sources, claims
from lm_mixup.records import TaskType

_CLUSTERS_KEPT = 512


def grounding(answer: str, variants: Sequence[str], task_type: TaskType) -> float:
    """The share (0–1) of an answer's claims that some text of the cluster supports; 0 for an answer without claims.

    ``answer`` is what stands in the answer part, ``variants`` are the cluster's texts. When a claim is supported, and
    what is not seen: :mod:`lm_mixup.distillers.support`.
    """
    said = claims(task_type, answer)
    if not said:
        return 0.0
    sources = _sources(task_type, tuple(variants))
    return sum(map(sources.support, said)) / len(said)


# the rollouts of a group share their cluster
@lru_cache(maxsize=_CLUSTERS_KEPT)
def _sources(task_type: TaskType, variants: tuple[str, ...]) -> Sources:
    return Sources(task_type, variants)
