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
from lm_mixup.raters.cascade import Floats, Ints, Plan, learn, luck_of
from lm_mixup.raters.features import FEATURES, matrix
from lm_mixup.raters.learned import LearnedRater, Weights
from lm_mixup.records import RATING_MIN, Failure, Rating, Sample, digest

_HEAD = "cascade"

_BLOCK_ROWS = 4096
_QUESTIONS = 2048
"""How many rows' texts are held at once, for their features and for questions."""


class CascadeRater:
    """What a cascade leaves behind, as a rater: the judge's word on the rows that it judged, the head's on all others.

    With a ``judge``, that one is asked once more: about whatever it has not seen and the head rates ``unsure`` or
    better, so that nothing counts as high on the head's word alone. Meant for distillates, of which the head has seen
    none, and which are few; a question that fails is a Failure.

    It is a function of content alone, so it can rate a pool in any order, and distillates after it. Made by
    :func:`train`, which keeps it in a folder.
    """

    def __init__(
        self,
        *,
        embedder: Embedder,
        weights: Path,
        judged: Mapping[str, float],
        judge_key: str,
        unsure: float = math.inf,
        judge: Rater | None = None,
    ) -> None:
        """``weights``: the head's file; ``judged``: content hash → rating, by the judge with the key ``judge_key``."""
        self._learned = LearnedRater(embedder=embedder, head=_HEAD, weights=weights)
        self._embedder = embedder
        self._judged = dict(judged)
        self._judge = judge
        self._unsure = unsure
        again = f"again-{digest([judge.key, unsure])[:8]}-" if judge else ""
        self._key = f"cascade-{again}{digest([judge_key, sorted(self._judged.items())])[:12]}-{self._learned.key}"

    @property
    def key(self) -> str:
        """Judge, judged rows with their ratings, the learned rater's key, and whether and when the judge is asked."""
        return self._key

    @property
    def card(self) -> Mapping[str, Any]:
        """How it was trained: judge, rows, questions asked and answered, rounds, plan."""
        return self._learned.weights.card

    @property
    def at_once(self) -> int | None:
        """How many samples the judge wants to be given at a time (None: it does not care, or is not asked)."""
        return getattr(self._judge, "at_once", None)

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating a sample, in order. ``details["by"]`` is ``judge`` or ``learned``."""
        return self.rate_with_vectors(samples, self._embedder.embed([sample.text for sample in samples]))

    def rate_with_vectors(self, samples: Sequence[Sample], vectors: Vectors) -> list[Rating | Failure]:
        """One rating a sample, in order; ``vectors`` (n_samples, dim) are the embeddings of ``sample.text``."""
        learned = self._learned.rate_with_vectors(samples, vectors)
        rated = [self._one(sample, rating) for sample, rating in zip(samples, learned, strict=True)]
        if self._judge is None:
            return rated
        unsure = [i for i, rating in enumerate(rated) if self._is_unsure(rating)]
        said = self._judge.rate([samples[i] for i in unsure]) if unsure else []
        for i, answer in zip(unsure, said, strict=True):
            rated[i] = answer if isinstance(answer, Failure) else _by_judge(answer.value, learned[i])
        return rated

    def _is_unsure(self, rating: Rating | Failure) -> bool:
        return isinstance(rating, Rating) and rating.details["by"] == "learned" and rating.value >= self._unsure

    def _one(self, sample: Sample, learned: Rating | Failure) -> Rating | Failure:
        value = self._judged.get(sample.digest)
        if value is not None:
            return _by_judge(value, learned)
        if isinstance(learned, Failure):
            return learned
        return Rating(learned.value, MappingProxyType({"by": "learned"}))

    @classmethod
    def load(cls, folder: Path, *, embedder: Embedder, judge: Rater | None = None) -> CascadeRater:
        """The rater that :func:`train` left in ``folder``; ``judge`` is asked where it is unsure, if given.

        Raises ModelError where there is none that can be read.
        """
        try:
            told = json.loads((folder / "cascade.json").read_text(encoding="utf-8"))
            judged, judge_key = {str(k): float(v) for k, v in told["judged"].items()}, str(told["judge"])
            unsure = float(told["unsure"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder}: expected a trained cascade (cascade.json, head.npz), got {error!r}") from error
        weights = folder / "head.npz"
        return cls(embedder=embedder, weights=weights, judged=judged, judge_key=judge_key, unsure=unsure, judge=judge)


class Cascade:
    """A cascade that is yet to be trained on a pool: whom to ask, and how much.

    ``start``: a cheap rater that helps to choose whom to ask about, as far as it agrees with the judge.
    """

    def __init__(self, judge: Rater, *, plan: Plan, start: LearnedRater | None = None) -> None:
        self.judge = judge
        self.plan = plan
        self.start = start

    @property
    def key(self) -> str:
        """The judge's key, the start's and the plan."""
        start = self.start.key if self.start else None
        return f"cascade-{digest([self.judge.key, start, asdict(self.plan)])[:16]}"

    def train(
        self,
        folder: Path,
        *,
        embedder: Embedder,
        vectors: npt.NDArray[np.floating[Any]],
        fetch: Callable[[Ints], Sequence[Sample]],
        progress: Callable[[int], None],
    ) -> CascadeRater:
        """As :func:`train`, with this judge, start and plan."""
        return train(
            folder,
            judge=self.judge,
            embedder=embedder,
            vectors=vectors,
            fetch=fetch,
            start=self.start,
            plan=self.plan,
            progress=progress,
        )

    def raters(self, folder: Path, *, embedder: Embedder) -> tuple[CascadeRater, CascadeRater]:
        """What training left in ``folder``: the rater of the pool, and the one of what is made from it.

        The second asks the judge again where it is unsure.
        """
        first = CascadeRater.load(folder, embedder=embedder)
        return first, CascadeRater.load(folder, embedder=embedder, judge=self.judge)


def train(
    folder: Path,
    *,
    judge: Rater,
    embedder: Embedder,
    vectors: npt.NDArray[np.floating[Any]],
    fetch: Callable[[Ints], Sequence[Sample]],
    start: LearnedRater | None = None,
    plan: Plan | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> CascadeRater:
    """Run a cascade over a pool and keep what it leaves in ``folder``.

    ``vectors`` (n, dim) of the pool's rows; ``fetch`` gives the samples at row numbers, so that no more texts than
    are asked about need be held. ``start`` as in :class:`Cascade`. ``progress`` hears how many questions were asked.
    Which rows are asked about depends on content, judge, start and plan alone, so that a repeated call asks a judge
    that remembers (an LLM with a ledger) nothing. Raises as :func:`learn` does, and whatever the judge raises.
    """
    plan = plan or Plan()
    blocks: list[Floats] = []
    digests: list[str] = []
    guesses: list[float] = []
    for at in range(0, len(vectors), _BLOCK_ROWS):
        part = slice(at, min(at + _BLOCK_ROWS, len(vectors)))
        samples = fetch(np.arange(part.start, part.stop))
        blocks.append(matrix(samples))
        digests += [sample.digest for sample in samples]
        if start is not None:
            rated = start.rate_with_vectors(samples, np.asarray(vectors[part], dtype=np.float32))
            guesses += [rating.value if isinstance(rating, Rating) else RATING_MIN for rating in rated]
    judged: dict[str, float] = {}
    at_once = max(_QUESTIONS, getattr(judge, "at_once", None) or 0)

    def ask(rows: Ints) -> Floats:
        said: list[float] = []
        for part in (rows[at : at + at_once] for at in range(0, len(rows), at_once)):
            samples = fetch(part)
            for sample, rating in zip(samples, judge.rate(samples), strict=True):
                said.append(rating.value if isinstance(rating, Rating) else math.nan)
                if isinstance(rating, Rating):
                    judged[sample.digest] = rating.value
            progress(len(part))
        return np.array(said)

    features = np.concatenate(blocks) if blocks else np.empty((0, len(FEATURES)))
    guess = None if start is None else np.array(guesses)
    learned = learn(vectors, features, ask, plan=plan, start=guess, luck=luck_of(digests, plan.seed))
    card = {
        "judge": judge.key,
        "start": start.key if start else None,
        "rows": len(vectors),
        "asked": len(learned.rows),
        "judged": int(np.isfinite(learned.said).sum()),
        "rounds": [asdict(r) | {"expected_high": _or_none(r.expected_high)} for r in learned.rounds],
        "plan": asdict(plan),
    }
    Weights((embedder.key,), MappingProxyType({_HEAD: learned.head}), None, card).save(folder / "head.npz")
    whole = {"judge": judge.key, "unsure": round(learned.unsure, 6), "judged": judged}
    write_bytes(folder / "cascade.json", (json.dumps(whole, indent=0) + "\n").encode())
    return CascadeRater.load(folder, embedder=embedder)


def _by_judge(value: float, learned: Rating | Failure) -> Rating:
    details: dict[str, object] = {"by": "judge"}
    if isinstance(learned, Rating):
        details["learned"] = round(learned.value, 4)
    return Rating(value, MappingProxyType(details))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)
