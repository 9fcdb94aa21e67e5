"""The cascade as a rater: what :mod:`lm_mixup.raters.cascade` learned of a pool, kept in a folder and applied.

A folder holds ``head.npz`` with its card ``head.json`` (numbers, as of any learned rater) and ``cascade.json`` (the
judge's word by content hash).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import ModelError
from lm_mixup.files import write_bytes
from lm_mixup.ports import Embedder, Rater, Vectors
from lm_mixup.raters.cascade import Floats, Ints, Plan, learn
from lm_mixup.raters.features import matrix
from lm_mixup.raters.learned import LearnedRater, Weights
from lm_mixup.records import Failure, Rating, Sample, digest

_HEAD = "cascade"


class CascadeRater:
    """What a cascade leaves behind, as a rater: the judge's word on the rows that it judged, the head's on all others.

    It is a function of content alone, so it can rate a pool in any order, and distillates after it. Made by
    :func:`train`, kept by :meth:`save`.
    """

    def __init__(self, *, embedder: Embedder, weights: Path, judged: Mapping[str, float], judge: str) -> None:
        """``weights``: the head's file; ``judged``: content hash → rating; ``judge``: the judge's key."""
        self._learned = LearnedRater(embedder=embedder, head=_HEAD, weights=weights)
        self._embedder = embedder
        self._judged = dict(judged)
        self._key = f"cascade-{digest([judge, sorted(self._judged.items())])[:12]}-{self._learned.key}"

    @property
    def key(self) -> str:
        """Judge, judged rows with their ratings, and the learned rater's key."""
        return self._key

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating a sample, in order. ``details["by"]`` is ``judge`` or ``learned``."""
        return self.rate_with_vectors(samples, self._embedder.embed([sample.text for sample in samples]))

    def rate_with_vectors(self, samples: Sequence[Sample], vectors: Vectors) -> list[Rating | Failure]:
        """One rating a sample, in order; ``vectors`` (n_samples, dim) are the embeddings of ``sample.text``."""
        learned = self._learned.rate_with_vectors(samples, vectors)
        return [self._one(sample, rating) for sample, rating in zip(samples, learned, strict=True)]

    def _one(self, sample: Sample, learned: Rating | Failure) -> Rating | Failure:
        value = self._judged.get(sample.digest)
        if value is not None:
            return Rating(value, MappingProxyType({"by": "judge"}))
        if isinstance(learned, Failure):
            return learned
        return Rating(learned.value, MappingProxyType({"by": "learned"}))

    @classmethod
    def load(cls, folder: Path, *, embedder: Embedder) -> CascadeRater:
        """The rater that :func:`train` left in ``folder``. Raises ModelError where there is none that can be read."""
        try:
            told = json.loads((folder / "cascade.json").read_text(encoding="utf-8"))
            judged, judge = {str(k): float(v) for k, v in told["judged"].items()}, str(told["judge"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder}: expected a trained cascade (cascade.json, head.npz), got {error!r}") from error
        return cls(embedder=embedder, weights=folder / "head.npz", judged=judged, judge=judge)


def train(
    folder: Path,
    *,
    judge: Rater,
    embedder: Embedder,
    vectors: npt.NDArray[np.floating[Any]],
    fetch: Callable[[Ints], Sequence[Sample]],
    features: Floats | None = None,
    start: Floats | None = None,
    plan: Plan | None = None,
) -> CascadeRater:
    """Run a cascade over a pool and keep what it leaves in ``folder``.

    ``vectors`` (n, dim) of the pool's rows; ``fetch`` gives the samples at row numbers, so that no more texts than
    are asked about need be held. ``features`` (n, n_features) are worked out where they are not given; ``start`` as
    in :func:`learn`. Raises as :func:`learn` does, and whatever the judge raises.
    """
    plan = plan or Plan()
    if features is None:
        blocks = [np.arange(at, min(at + 4096, len(vectors))) for at in range(0, len(vectors), 4096)]
        features = np.concatenate([matrix(fetch(block)) for block in blocks])
    judged: dict[str, float] = {}

    def ask(rows: Ints) -> Floats:
        samples = fetch(rows)
        said = judge.rate(samples)
        for sample, rating in zip(samples, said, strict=True):
            if isinstance(rating, Rating):
                judged[sample.digest] = rating.value
        return np.array([r.value if isinstance(r, Rating) else np.nan for r in said])

    learned = learn(vectors, features, ask, plan=plan, start=start)
    card = {
        "judge": judge.key,
        "rows": len(vectors),
        "asked": len(learned.rows),
        "judged": int(np.isfinite(learned.said).sum()),
        "rounds": [asdict(r) | {"expected_high": _or_none(r.expected_high)} for r in learned.rounds],
        "plan": asdict(plan),
    }
    Weights((embedder.key,), MappingProxyType({_HEAD: learned.head}), None, card).save(folder / "head.npz")
    whole = {"judge": judge.key, "judged": judged}
    write_bytes(folder / "cascade.json", (json.dumps(whole, indent=0) + "\n").encode())
    return CascadeRater.load(folder, embedder=embedder)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)
