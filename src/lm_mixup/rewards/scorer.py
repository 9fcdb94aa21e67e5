"""The rewards of rollouts put together: each answer is read once, embedded once and scored in every component."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np

from lm_mixup.errors import InputError, ProviderError
from lm_mixup.ports import Embedder, Vectors
from lm_mixup.raters.knn_bayes import KNNBayesRater
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.records import Failure, Rating, Sample, digest
from lm_mixup.rewards.alignment import THRESHOLD, alignment_reward
from lm_mixup.rewards.answers import Reading, Rollout, answer_sample, read_answer
from lm_mixup.rewards.coverage import coverage_reward, grounding_reward
from lm_mixup.rewards.form import form_of
from lm_mixup.rewards.quality import Mapping as QualityMapping
from lm_mixup.rewards.quality import VectorRater, quality_reward

COMPONENTS = ("quality", "alignment", "format", "coverage", "grounding")
REFERENCES_KEPT = 4096
"""Vectors of so many references are remembered: a prompt comes back with every group and every epoch."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What each component counts for; METHOD § 3 [R], coverage and grounding ours and off. Each ≥ 0, not all 0.

    They are taken as they are: the total lies in 0–1 where they sum to 1.
    """

    quality: float = 0.5
    alignment: float = 0.4
    format: float = 0.1
    coverage: float = 0.0
    grounding: float = 0.0

    def __post_init__(self) -> None:
        values = [getattr(self, f.name) for f in fields(self)]
        if not all(math.isfinite(v) and v >= 0 for v in values) or not any(values):
            raise InputError(f"reward weights: expected numbers of at least 0, and one above 0, got {self}")


@dataclass(frozen=True, slots=True)
class Scored:
    """What one rollout is worth.

    ``total`` is the weighted sum of ``components`` (each 0–1, by name, those of weight 0 for the record); None where a
    component that counts could not be worked out, ``reason`` then says why. ``answer`` is the answer part, None where
    there is none; ``sample`` what it becomes, ``vector`` (dim,) the embedding of that sample's text, for another
    rater to rate it without embedding it again; ``rating`` (0–5) and ``cosine`` are what quality and alignment were
    made of.
    """

    total: float | None
    components: Mapping[str, float | None]
    answer: str | None = None
    sample: Sample | None = None
    vector: Vectors | None = field(default=None, repr=False, compare=False)
    rating: float | None = None
    cosine: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Case:
    """A rollout on its way: what was read off it, and the texts whose vectors it needs."""

    rollout: Rollout
    reading: Reading
    sample: Sample | None
    reference: str

    @classmethod
    def of(cls, rollout: Rollout) -> _Case:
        reading = read_answer(rollout.text, rollout.task_type)
        if reading.answer is None:
            return cls(rollout, reading, None, "")
        name = digest([str(rollout.task_type), reading.answer])
        sample = answer_sample(name, rollout.task_type, reading.answer)
        there = rollout.reference.strip()
        return cls(
            rollout, reading, sample, answer_sample("", rollout.task_type, rollout.reference).text if there else ""
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What was worked out for all rollouts together: vectors by text, ratings by sample, and why there are none."""

    vectors: Mapping[str, Vectors]
    ratings: Mapping[str, Rating | Failure]
    failure: str


class Scorer:
    """Scores rollouts.

    ``library`` is what quality is told by: a rated library (KNN-Bayes, the paper's), or a rater that takes vectors
    (``raters.learned.reward_rater``); ``embedder`` must be the one whose vectors it understands. Without it there is
    no quality, without an embedder neither quality nor alignment; what has a weight must be there. ``mapping`` is that
    of :func:`quality_reward`, ``threshold`` that of :func:`alignment_reward`.

    Raises InputError where the library is another embedder's, or a weight asks for what is not there.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        library: RatedLibrary | VectorRater | None,
        weights: Weights | None = None,
        *,
        mapping: QualityMapping = "steps",
        threshold: float | None = THRESHOLD,
    ) -> None:
        self.weights = weights or Weights()
        if mapping not in ("steps", "linear"):
            raise InputError(f"quality mapping: expected 'steps' or 'linear', got {mapping!r}")
        if self.weights.alignment > 0 and embedder is None:
            raise InputError("rewards: alignment has a weight and needs an embedder; give one, or set the weight to 0")
        if self.weights.quality > 0 and (embedder is None or library is None):
            raise InputError(
                "rewards: quality has a weight and needs an embedder and a rated library (lm-mixup library build); "
                "give both, or set the weight to 0"
            )
        self._embedder = embedder
        self._rater = _rater_of(library, embedder)
        without = {"quality": self._rater is None, "alignment": embedder is None}
        self._names = tuple(name for name in COMPONENTS if not without.get(name, False))
        self._mapping = mapping
        self._threshold = threshold
        self._references: OrderedDict[str, Vectors] = OrderedDict()

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """One result a rollout, in order. A rollout's result does not depend on the others.

        Without an answer all components are 0. Quality is None where the library has no shelf for the task type;
        quality and alignment are None where the embedder fails or gives a vector that is not finite, alignment where
        there is no reference.
        """
        cases = [_Case.of(rollout) for rollout in rollouts]
        vectors, failure = self._embed(cases)
        found = _Found(vectors, self._rate(cases, vectors), failure)
        return [self._one(case, found) for case in cases]

    def _embed(self, cases: Sequence[_Case]) -> tuple[dict[str, Vectors], str]:
        """The vector of each different text, and "" or why there are none."""
        if self._embedder is None:
            return {}, ""
        references = dict.fromkeys(case.reference for case in cases if case.reference)
        known = {text: self._references[text] for text in references if text in self._references}
        answers = dict.fromkeys(case.sample.text for case in cases if case.sample is not None)
        wanted = [text for text in {**answers, **references} if text not in known]
        if wanted:
            try:
                made = self._embedder.embed(wanted)
            except ProviderError as error:  # an endpoint that stays away: these rollouts are masked, training goes on
                return known, f"the embedder failed: {error}"
            known |= {text: vector for text, vector in zip(wanted, made, strict=True) if np.isfinite(vector).all()}
        for text in references:
            if text in known:
                self._references[text] = known[text]
                self._references.move_to_end(text)
        while len(self._references) > REFERENCES_KEPT:
            self._references.popitem(last=False)
        return known, ""

    def _rate(self, cases: Sequence[_Case], vectors: Mapping[str, Vectors]) -> dict[str, Rating | Failure]:
        there = [case.sample for case in cases if case.sample is not None and case.sample.text in vectors]
        samples = {sample.id: sample for sample in there}
        if self._rater is None or not samples:
            return {}
        given = np.stack([vectors[sample.text] for sample in samples.values()])
        return dict(zip(samples, self._rater.rate_with_vectors(list(samples.values()), given), strict=True))

    def _one(self, case: _Case, found: _Found) -> Scored:
        answer, sample, rollout = case.reading.answer, case.sample, case.rollout
        if answer is None or sample is None:
            return Scored(0.0, MappingProxyType(dict.fromkeys(self._names, 0.0)))
        rated = found.ratings.get(sample.id)
        rating = rated.value if isinstance(rated, Rating) else None
        vector, reference = found.vectors.get(sample.text), found.vectors.get(case.reference)
        cosine = None if vector is None or reference is None else _cosine(vector, reference)
        values: dict[str, float | None] = {
            "quality": None if rating is None else quality_reward(rating, self._mapping),
            "alignment": None if cosine is None else alignment_reward(cosine, self._threshold),
            "format": form_of(case.reading),
            "coverage": coverage_reward(answer, rollout.variants, rollout.task_type),
            "grounding": grounding_reward(answer, rollout.variants, rollout.task_type),
        }
        components = MappingProxyType({name: values[name] for name in self._names})
        counted = [name for name in self._names if getattr(self.weights, name) > 0]
        lacking = next((name for name in counted if values[name] is None), None)
        if lacking is None:
            total, reason = sum(getattr(self.weights, name) * (values[name] or 0.0) for name in counted), ""
        else:
            total, reason = None, f"{lacking}: {_why(lacking, case, rated, found.failure)}"
        return Scored(total, components, answer, sample, vector, rating, cosine, reason)


def _rater_of(library: RatedLibrary | VectorRater | None, embedder: Embedder | None) -> VectorRater | None:
    if library is None or embedder is None:
        return None
    return KNNBayesRater(library, embedder=embedder) if isinstance(library, RatedLibrary) else library


def _why(lacking: str, case: _Case, rated: Rating | Failure | None, failure: str) -> str:
    if isinstance(rated, Failure):
        return rated.detail
    if lacking == "alignment" and not case.reference:
        return "the rollout has no reference"
    return failure or "the embedder gave a vector that is not finite"


def _cosine(a: Vectors, b: Vectors) -> float:
    """Cosine of two (dim,) vectors; of a vector of zeros, 0."""
    # sums of products, not a matrix product: the same for a pair whatever else is in the batch
    wide, other = a.astype(np.float64), b.astype(np.float64)
    scale = math.sqrt(float((wide * wide).sum()) * float((other * other).sum()))
    return float((wide * other).sum()) / scale if scale > 0 else 0.0
