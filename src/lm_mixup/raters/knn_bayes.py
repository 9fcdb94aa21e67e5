"""KNN-Bayes: a sample's rating from its nearest rated neighbours (LM-Mixup § 3, METHOD § 3).

The rating is the posterior mean; its details say how sure the posterior is, and the confidence is calibrated: of the
ratings given with confidence 0.6, six in ten have the right class. What that costs and buys is in the library's figures
and in ``docs/raters/knn-bayes.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InputError
from lm_mixup.neighbors.search import order, search_exact, unit
from lm_mixup.ports import Embedder, Vectors
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.raters.posterior import CLASSES, evidence, histograms, posterior
from lm_mixup.records import Failure, Rating, Sample, TaskType, rating_class

STAGE = "rate"

HIGH_CLASS, MIDDLE_CLASS = 4, 3
MIDDLE_QUALITY = 0.3
"""Reward of a rating of class 3. METHOD § 3 [R]."""

_SPARE = 8
"""More candidates than asked for are measured anew one by one, so that the batch's shape cannot move a near-tie."""

_ROWS = 32
"""Queries whose candidates are gathered at once: 1 MB at 384 dimensions."""

_DECIMALS = 4


def quality(rating: float) -> float:
    """The quality reward of a rating in 0–5: class ≥ 4 → 1, class 3 → 0.3, below → 0 (METHOD § 3).

    The rating is rounded to its class first: a posterior mean is hardly ever exactly 3, and without rounding the middle
    step would never be taken.
    """
    nearest = rating_class(rating)
    if nearest >= HIGH_CLASS:
        return 1.0
    return MIDDLE_QUALITY if nearest == MIDDLE_CLASS else 0.0


class KNNBayesRater:
    """Rates samples by a rated library, each against the shelf of its task type.

    ``embedder`` must be the one whose vectors the library holds. A library row that is the sample itself does not
    vouch for it. A task type without a shelf gives a Failure ``no-shelf``.

    Raises InputError where the embedder is another one than the library's.
    """

    def __init__(self, library: RatedLibrary, *, embedder: Embedder) -> None:
        if library.embedder != embedder.key:
            raise InputError(
                f"knn-bayes: the library holds vectors of {library.embedder}, the embedder is {embedder.key}; "
                "use that embedder, or build the library with this one"
            )
        self.library = library
        self._embedder = embedder
        self._classes = {t: shelf.classes for t, shelf in library.shelves.items()}
        self._bases = {t: unit(shelf.vectors) for t, shelf in library.shelves.items()}
        self._known = {
            t: {row.tobytes(): i for i, row in enumerate(shelf.digests)} for t, shelf in library.shelves.items()
        }
        self._key = f"knn-bayes-{library.digest()}-{embedder.key}"

    @property
    def key(self) -> str:
        """Library (by content) and embedder."""
        return self._key

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating a sample, in order; the samples' texts are embedded first."""
        return self.rate_with_vectors(samples, self._embedder.embed([sample.text for sample in samples]))

    def rate_with_vectors(self, samples: Sequence[Sample], vectors: Vectors) -> list[Rating | Failure]:
        """One rating a sample, in order; ``vectors`` (n_samples, dim) are the embeddings of ``sample.text``.

        A rating's details: ``posterior`` (six shares), ``confidence`` (the largest of them), ``similarity`` (mean
        cosine of the neighbours: low where the library knows nothing of the kind).
        """
        if vectors.shape != (len(samples), self._embedder.dim):
            raise InputError(
                f"knn-bayes: expected vectors of shape {(len(samples), self._embedder.dim)}, got {vectors.shape}"
            )
        results: list[Rating | Failure | None] = [None] * len(samples)
        by_type: dict[TaskType, list[int]] = {}
        for i, sample in enumerate(samples):
            if sample.task_type not in self.library.shelves:
                there = ", ".join(self.library.shelves)
                detail = f"the library has no shelf for task type {sample.task_type}; it has: {there}"
                results[i] = Failure(sample.id, STAGE, "no-shelf", detail)
            elif not np.isfinite(vectors[i]).all():
                results[i] = Failure(sample.id, STAGE, "bad-vector", "the embedder gave a vector that is not finite")
            else:
                by_type.setdefault(sample.task_type, []).append(i)
        for task_type, rows in by_type.items():
            rated = self._rate(task_type, [samples[i] for i in rows], vectors[rows])
            for i, rating in zip(rows, rated, strict=True):
                results[i] = rating
        return [result for result in results if result is not None]

    def _rate(self, task_type: TaskType, samples: Sequence[Sample], vectors: Vectors) -> list[Rating]:
        shelf = self.library.shelves[task_type]
        known = self._known[task_type]
        own = np.array([known.get(bytes.fromhex(sample.digest), -1) for sample in samples], dtype=np.int64)
        ids, cosines = _nearest(unit(vectors), self._bases[task_type], self.library.settings.neighbors, own)
        said = evidence(histograms(self._classes[task_type][ids]), shelf.transition)
        shares = posterior(said, shelf.prior, shelf.temperature)
        means = shares @ np.arange(CLASSES, dtype=np.float64)
        near = cosines.astype(np.float64).mean(axis=1)
        return [
            Rating(
                round(float(mean), _DECIMALS),
                MappingProxyType(
                    {
                        "confidence": round(float(row.max()), _DECIMALS),
                        "posterior": np.round(row, _DECIMALS).tolist(),
                        "similarity": round(float(similarity), _DECIMALS),
                    }
                ),
            )
            for mean, row, similarity in zip(means, shares, near, strict=True)
        ]


def _nearest(
    queries: npt.NDArray[np.float32], base: npt.NDArray[np.float32], k: int, own: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float16]]:
    """(n, k) nearest rows of ``base`` and their cosines; ``own`` (n,) is the row that a query itself is, or −1."""
    found, _ = search_exact(queries, base, min(k + 1 + _SPARE, len(base)))
    # the product of a whole block may round otherwise for another block: each candidate is measured by itself
    cosines = np.empty(found.shape, dtype=np.float32)
    for start in range(0, len(found), _ROWS):
        part = slice(start, start + _ROWS)
        cosines[part] = (base[found[part]] * queries[part, None, :]).sum(axis=2)
    cosines[found == own[:, None]] = -2.0
    return order(found, cosines.astype(np.float16), k)
