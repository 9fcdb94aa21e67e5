"""Quality: how good an answer is, told from rated samples like it (KNN-Bayes, LM-Mixup § 3)."""

from __future__ import annotations

from typing import Literal

from lm_mixup.raters.knn_bayes import quality
from lm_mixup.records import RATING_MAX

Mapping = Literal["steps", "linear"]


def quality_reward(rating: float, mapping: Mapping = "steps") -> float:
    """The reward (0–1) of a rating (0–5), as :class:`lm_mixup.raters.knn_bayes.KNNBayesRater` gives one.

    ``steps``: class ≥ 4 → 1, class 3 → 0.3, below → 0, rounded to the class first (METHOD § 3 [R]). ``linear``: the
    rating over 5 [O], which tells two answers of one class apart.
    """
    return quality(rating) if mapping == "steps" else rating / RATING_MAX
