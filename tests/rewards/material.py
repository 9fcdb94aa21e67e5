"""What the tests of rewards share: a small rated library, rollouts, an embedder that counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lm_mixup.embed.hashing import HashEmbedder
from lm_mixup.ports import Vectors
from lm_mixup.prompts.compact import completion
from lm_mixup.raters.library import LibrarySettings, RatedLibrary, build
from lm_mixup.records import TaskType
from lm_mixup.rewards import Rollout, answer_sample

TOPICS = ["ice", "iron", "wool", "sand", "salt", "glass", "paper", "bread", "honey", "copper"]
GOOD = "Q: What is {0} used for?\nA: {1} is used by builders and cooks, because it keeps well and costs little."
POOR = "Q: {0}?\nA: {1} idk lol"
REFERENCE = GOOD.format("ice", "Ice")
VARIANTS = (POOR.format("ice", "Ice"), "Q: What is ice used for?\nA: Ice is used by builders and cooks")


class Counting(HashEmbedder):
    """Counts the texts that it embeds; those that hold ``spoil`` get a vector that is not finite."""

    def __init__(self, spoil: str = "\x07never") -> None:
        super().__init__(dim=128)
        self.texts: list[str] = []
        self.spoil = spoil

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        vectors = super().embed(texts)
        for row, text in enumerate(texts):
            if self.spoil in text:
                vectors[row] = np.nan
        return vectors


def library() -> RatedLibrary:
    """Questions and answers alone: good ones rated 4.6, poor ones 0.8."""
    embedder = HashEmbedder(dim=128)
    rated = [(form.format(t, t.capitalize()), r) for t in TOPICS for form, r in ((GOOD, 4.6), (POOR, 0.8))]
    samples = [answer_sample(str(i), TaskType.QA, text) for i, (text, _) in enumerate(rated)]
    return build(
        samples,
        [rating for _, rating in rated],
        embedder.embed([sample.text for sample in samples]),
        embedder=embedder.key,
        rater="made-up",
        settings=LibrarySettings(neighbors=5),
    )


def rollout(answer: str = REFERENCE, kind: TaskType = TaskType.QA, reference: str = REFERENCE) -> Rollout:
    """A whole rollout with this answer."""
    return Rollout(completion(answer), kind, reference, VARIANTS)
