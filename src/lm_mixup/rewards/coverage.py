"""Coverage and grounding as rewards: the measures that the checks of a trained model use. Ours, off by default."""

from __future__ import annotations

from collections.abc import Sequence

from lm_mixup.distillers.coverage import coverage
from lm_mixup.distillers.grounding import grounding
from lm_mixup.records import TaskType


def coverage_reward(answer: str, variants: Sequence[str], task_type: TaskType) -> float:
    """The share (0–1) of the cluster's facts that an answer holds: :func:`lm_mixup.distillers.coverage.coverage`."""
    return coverage(answer, variants, task_type)


def grounding_reward(answer: str, variants: Sequence[str], task_type: TaskType) -> float:
    """The share (0–1) of an answer's claims that a source supports: :func:`lm_mixup.distillers.grounding.grounding`."""
    return grounding(answer, variants, task_type)
