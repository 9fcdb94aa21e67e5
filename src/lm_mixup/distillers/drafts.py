"""Drafts: what extraction makes of a cluster's texts, for a model that was trained to better it."""

from __future__ import annotations

from collections.abc import Sequence

from lm_mixup.distillers.extractive import ExtractiveDistiller
from lm_mixup.prompts import Messages
from lm_mixup.prompts.compact import compact
from lm_mixup.records import UNKNOWN_LANGUAGE, Cluster, Distillate, TaskType
from lm_mixup.task_types import answer_sample


def cluster_of(id: str, task_type: TaskType, texts: Sequence[str]) -> Cluster:
    """Texts as a cluster, rated alike: for drafts of what nobody has rated."""
    samples = tuple(answer_sample(f"{id}/{number}", task_type, text) for number, text in enumerate(texts))
    return Cluster(id, task_type, UNKNOWN_LANGUAGE, "", samples, (0.0,) * len(samples))


def draft_of(task_type: TaskType, texts: Sequence[str]) -> str | None:
    """What extraction makes of texts, rated alike; None where it makes nothing of them."""
    made = ExtractiveDistiller().distill([cluster_of("draft", task_type, texts)])[0]
    return made.answer if isinstance(made, Distillate) else None


def asked_of(task_type: TaskType, texts: Sequence[str], *, drafts: bool) -> Messages:
    """What a trained model is asked about texts: with a draft, if it was trained with drafts."""
    return compact(task_type, texts, draft_of(task_type, texts) if drafts else None)
