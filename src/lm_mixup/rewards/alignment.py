"""Alignment: whether an answer says what the reference says."""

from __future__ import annotations

THRESHOLD = 0.8
"""METHOD § 3 [R]."""


def alignment_reward(cosine: float, threshold: float | None = THRESHOLD) -> float:
    """1 where the cosine of the answer's and the reference's embeddings is at least ``threshold``, else 0 [R].

    ``threshold`` None: the cosine itself, at least 0 [O].
    """
    if threshold is None:
        return max(0.0, min(1.0, cosine))
    return float(cosine >= threshold)
