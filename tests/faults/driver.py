"""One run in a process of its own, to be killed: ``python -m tests.faults.driver POOL RUN [PAUSE_S]``.

The collaborators are the quick ones of the tests, slowed down, so that a kill falls into their work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import lm_mixup
from lm_mixup.ports import Vectors
from lm_mixup.records import Cluster, Distillate, Failure, Rating, Sample
from tests.fakes import JoiningDistiller, LengthRater, WordEmbedder

PAUSE_S = float(sys.argv[3]) if len(sys.argv) > 3 else 0.002


class SlowEmbedder(WordEmbedder):
    def embed(self, texts: Sequence[str]) -> Vectors:
        time.sleep(PAUSE_S * len(texts))
        return super().embed(texts)


class SlowRater(LengthRater):
    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        time.sleep(PAUSE_S * len(samples))
        return super().rate(samples)


class SlowDistiller(JoiningDistiller):
    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        time.sleep(PAUSE_S * len(clusters))
        return super().distill(clusters)


if __name__ == "__main__":
    hands = {"embedder": SlowEmbedder(), "rater": SlowRater(), "distiller": SlowDistiller()}
    lm_mixup.run([sys.argv[1]], sys.argv[2], settings=["select.budget=30"], **hands)
