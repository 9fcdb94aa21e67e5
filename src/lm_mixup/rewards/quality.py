"""Quality: how good an answer is, told from rated samples like it (KNN-Bayes, LM-Mixup § 3) or by another rater."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from lm_mixup.ports import Vectors
from lm_mixup.raters.knn_bayes import quality
from lm_mixup.records import RATING_MAX, Failure, Rating, Sample

Mapping = Literal["steps", "linear"]


class VectorRater(Protocol):
    """A rater that takes the vectors of ``sample.text`` (KNN-Bayes, the learned one): nothing is embedded twice."""

    @property
    def key(self) -> str:
        """Names the rater, its version and its settings."""
        ...

    def rate_with_vectors(self, samples: Sequence[Sample], vectors: Vectors) -> list[Rating | Failure]:
        """One rating, or a failure, per sample, in order; ``vectors`` (n_samples, dim)."""
        ...


def quality_reward(rating: float, mapping: Mapping = "steps") -> float:
    """The reward (0–1) of a rating (0–5).

    ``steps``: class ≥ 4 → 1, class 3 → 0.3, below → 0, rounded to the class first (METHOD § 3 [R]). ``linear``: the
    rating over 5 [O], which tells two answers of one class apart.
    """
    return quality(rating) if mapping == "steps" else rating / RATING_MAX
