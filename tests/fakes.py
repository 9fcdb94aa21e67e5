"""Collaborators for tests of the walk: quick, deterministic, and shaped like the real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lm_mixup.ports import Vectors
from lm_mixup.records import Cluster, Distillate, Failure, Rating, Sample, digest
from lm_mixup.task_types import QA, render, to_messages


class WordEmbedder:
    """Unit vectors from hashed words; equal texts have equal vectors, texts with common words near ones."""

    key = "words-64"
    dim = 64

    def __init__(self) -> None:
        self.texts = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in [*text.lower().split(), "."]:
                out[row, int(digest(word)[:8], 16) % self.dim] += 1
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out


class LengthRater:
    """One point for every ``step`` characters of the completion; text with ``fail_on`` in it cannot be rated."""

    def __init__(self, step: int = 20, fail_on: str = "\x07never") -> None:
        self.step = step
        self.fail_on = fail_on
        self.key = f"length-{step}"
        self.rated = 0

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        self.rated += len(samples)
        return [
            Failure(s.id, "rate", "unreadable", "as asked")
            if self.fail_on in s.text
            else Rating(min(5.0, len(s.completion) / self.step))
            for s in samples
        ]


class JoiningDistiller:
    """Joins the answers of the members; a cluster with ``fail_on`` in it cannot be distilled."""

    key = "joining"

    def __init__(self, fail_on: str = "\x07never") -> None:
        self.fail_on = fail_on
        self.distilled = 0

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        self.distilled += len(clusters)
        return [self._one(cluster) for cluster in clusters]

    def _one(self, cluster: Cluster) -> Distillate | Failure:
        if any(self.fail_on in s.text for s in cluster.samples):
            return Failure(cluster.id, "distill", "unreadable", "as asked")
        item = QA(cluster.samples[0].prompt, " ".join(dict.fromkeys(s.completion for s in cluster.samples)))
        ids = cluster.source_ids
        return Distillate(
            cluster.id,
            cluster.id,
            cluster.task_type,
            cluster.language,
            cluster.source,
            ids,
            ids,
            render(item),
            to_messages(item),
        )
