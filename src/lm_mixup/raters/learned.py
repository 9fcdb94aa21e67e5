"""The embedded default rater: a small head on a sample's embedding and surface features.

A rating is two things put together, both explainable number by number::

    merit   = knots( intercept + vector · w_v + clip(features) · w_f )      a ridge regression on real ratings
    damage  = points · hinge(sigmoid( clip(features) · w_d + b ))           0 for sound text
    rating  = merit − damage, held within 0–5

``knots`` is a strictly increasing, piecewise linear map. A regression shrinks towards the mean and would call no row
high; the map stretches its output so that on held-out rows the share of each class is that of the rater whom the head
imitates. Beyond the outermost knots it bends towards 0 and 5 without reaching them. Features are clipped to the range
that training saw and a little more, so that no odd text explodes its rating.

How the shipped weights were made, how good they are and what they cannot do: ``docs/raters/learned.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InputError, ModelError
from lm_mixup.ports import Embedder, Vectors
from lm_mixup.raters.features import FEATURES, FEATURES_VERSION, features
from lm_mixup.records import RATING_MAX, RATING_MIN, Failure, Rating, Sample

Floats = npt.NDArray[np.float64]

SHIPPED = Path(__file__).parent / "weights" / "dolly-v1.npz"
"""The weights that come with the package; the card beside them has the same name and ``.json``."""

REWARD = SHIPPED.with_name("reward-v1.npz")
JUDGE = SHIPPED.with_name("judge-v1.npz")
"""Weights for training by rewards, learned from different rows: see :func:`reward_rater`, :func:`independent_judge`."""

FORMAT = 1
"""Layout of the weights file; raised when an older reader could not read a newer file."""

_DECIMALS = 4
# a rating is written with so many decimals: the last bits of another CPU's arithmetic do not reach the files


@dataclass(frozen=True)
class Head:
    """What imitates one rater.

    ``vector`` (dim,) and ``features`` (n_features,) are weights on the embedding and on the clipped features;
    ``low`` and ``high`` (n_features,) are what the features are clipped to; ``knots`` (k, 2), k ≥ 2, both columns
    strictly increasing, ratings strictly within 0–5, maps the sum to a rating.
    """

    vector: Floats
    features: Floats
    low: Floats
    high: Floats
    intercept: float
    knots: Floats

    def merit(self, vector: Vectors, row: Floats) -> float:
        """The merit in 0–5 of one sample: ``vector`` (dim,), ``row`` (n_features,)."""
        # sums of products, not a matrix product: BLAS may add in another order for another batch
        raw = self.intercept + float(np.sum(vector.astype(np.float64) * self.vector))
        raw += float(np.sum(np.clip(row, self.low, self.high) * self.features))
        return interpolate(raw, self.knots)


@dataclass(frozen=True)
class Damage:
    """What a damaged text loses: a logistic regression on the features, cut at ``threshold``, worth ``points``."""

    features: Floats
    low: Floats
    high: Floats
    intercept: float
    points: float
    threshold: float

    def loss(self, row: Floats) -> float:
        """Points that the text of these features (n_features,) loses: 0 to ``points``, 0 for sound text."""
        logit = self.intercept + float(np.sum(np.clip(row, self.low, self.high) * self.features))
        share = 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))
        return self.points * max(0.0, share - self.threshold) / (1.0 - self.threshold)


@dataclass(frozen=True)
class Weights:
    """The heads of a learned rater, what they share, and the card that says how they were made.

    ``embedders`` are the keys of the embedders whose vectors the heads understand; a ``*`` stands for any characters.
    """

    embedders: tuple[str, ...]
    heads: Mapping[str, Head]
    damage: Damage | None
    card: Mapping[str, Any]

    def understand(self, embedder: str) -> bool:
        """Whether the heads understand the vectors of the embedder with this key."""
        return any(_matches(pattern, embedder) for pattern in self.embedders)

    def arrays(self) -> dict[str, Floats]:
        """Every number of the weights by name, as they are written."""
        out: dict[str, Floats] = {}
        for name, head in self.heads.items():
            for part in ("vector", "features", "low", "high", "intercept", "knots"):
                out[f"head/{name}/{part}"] = np.asarray(getattr(head, part), dtype=np.float64)
        if self.damage is not None:
            for part in ("features", "low", "high", "intercept", "points", "threshold"):
                out[f"damage/{part}"] = np.asarray(getattr(self.damage, part), dtype=np.float64)
        return out

    def digest(self) -> str:
        """Hash of every number: 12 hex digits. The card is not part of it."""
        whole = hashlib.blake2b(digest_size=6)
        for name, array in sorted(self.arrays().items()):
            whole.update(f"{name}{array.shape}".encode())
            whole.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return whole.hexdigest()

    def save(self, path: Path) -> None:
        """Write ``path`` (.npz, numbers alone) and the card beside it (.json)."""
        meta = {
            "format": FORMAT,
            "features_version": FEATURES_VERSION,
            "features": list(FEATURES),
            "embedders": list(self.embedders),
            "heads": list(self.heads),
            "digest": self.digest(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **self.arrays())  # type: ignore[arg-type]
        text = json.dumps({**meta, "card": dict(self.card)}, indent=1, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Weights:
        """Read what :meth:`save` wrote. Raises ModelError where it is missing, damaged or of another version."""
        try:
            meta = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name], dtype=np.float64) for name in file.files}
            found = (meta["format"], meta["features_version"], meta["features"])
            if found != (FORMAT, FEATURES_VERSION, list(FEATURES)):
                raise ModelError(
                    f"{path}: expected weights of format {FORMAT}, features version {FEATURES_VERSION}, "
                    f"found {found[0]}, {found[1]}; train them again with this version of lm-mixup"
                )
            heads = {name: Head(**_parts(arrays, f"head/{name}/")) for name in meta["heads"]}
            damage = Damage(**_parts(arrays, "damage/")) if "damage/features" in arrays else None
            weights = cls(tuple(meta["embedders"]), MappingProxyType(heads), damage, MappingProxyType(meta["card"]))
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{path}: expected the weights of a learned rater (.npz, with a card .json), got {error}"
            ) from error
        if weights.digest() != meta["digest"]:
            raise ModelError(f"{path}: its numbers are not those that its card names; fetch or train the weights again")
        return weights


def _parts(arrays: Mapping[str, Floats], prefix: str) -> dict[str, Any]:
    parts = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return {name: float(array) if array.ndim == 0 else array for name, array in parts.items()}


def interpolate(raw: float, knots: Floats) -> float:
    """The rating at ``raw``: linear between the knots (k, 2); outside, an exponential approach to 0 and to 5.

    Continuous with a continuous slope at the outer knots, and strictly increasing everywhere (to float precision).
    """
    piece = int(np.searchsorted(knots[1:-1, 0], raw, side="right"))
    (x0, y0), (x1, y1) = knots[piece].tolist(), knots[piece + 1].tolist()
    slope = (y1 - y0) / (x1 - x0)
    if raw > x1:
        room = RATING_MAX - y1
        return float(RATING_MAX - room * math.exp(-slope * (raw - x1) / room))
    if raw < x0:
        room = y0 - RATING_MIN
        return float(RATING_MIN + room * math.exp(-slope * (x0 - raw) / room))
    return float(y0 + (raw - x0) * slope)


def _matches(pattern: str, key: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), key) is not None


class LearnedRater:
    """Rates samples with trained weights: no language model, no network, some thousand rows a second on one core.

    ``embedder`` must be one that the weights were trained on. ``head`` is whose ratings are imitated: a key of
    ``Weights.heads`` (shipped: ``gpt-4o-mini``, ``mean`` of three raters, and others, see the card). ``weights``:
    a file written by :meth:`Weights.save`; default the shipped ones.

    Raises InputError for an unknown head or an embedder that the weights do not know, ModelError for bad weights.
    """

    def __init__(self, *, embedder: Embedder, head: str = "gpt-4o-mini", weights: Path | None = None) -> None:
        path = weights or SHIPPED
        self.weights = Weights.load(path)
        if head not in self.weights.heads:
            raise InputError(f"learned rater: no head {head!r} in {path.name}; it has {', '.join(self.weights.heads)}")
        if not self.weights.understand(embedder.key):
            raise InputError(
                f"learned rater: the weights {path.name} understand vectors of "
                f"{' or '.join(self.weights.embedders)}, the embedder is {embedder.key}; "
                f"use that embedder, or train weights on this one"
            )
        self._embedder = embedder
        self._head = self.weights.heads[head]
        self._key = f"learned-{head}-{self.weights.digest()}-f{FEATURES_VERSION}-{embedder.key}"

    @property
    def key(self) -> str:
        """Head, weights (by content), version of the features, embedder."""
        return self._key

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating a sample, in order; the samples' texts are embedded first, by the rater's embedder."""
        return self.rate_with_vectors(samples, self._embedder.embed([sample.text for sample in samples]))

    def rate_with_vectors(self, samples: Sequence[Sample], vectors: Vectors) -> list[Rating | Failure]:
        """One rating a sample, in order; ``vectors`` (n_samples, dim) are the embeddings of ``sample.text``.

        ``details`` of a rating holds ``merit`` and ``damage``, whose difference it is. A vector that is not finite
        gives a Failure.
        """
        expected = (len(samples), len(self._head.vector))
        if vectors.shape != expected:
            raise InputError(f"learned rater: expected vectors of shape {expected}, got {vectors.shape}")
        return [self._rate(sample, vector) for sample, vector in zip(samples, vectors, strict=True)]

    def _rate(self, sample: Sample, vector: Vectors) -> Rating | Failure:
        if not np.isfinite(vector).all():
            return Failure(sample.id, "rate", "bad-vector", "the embedder gave a vector that is not finite")
        row = np.array(features(sample.prompt, sample.completion, turns=sample.turns))
        merit = self._head.merit(vector, row)
        damage = self.weights.damage.loss(row) if self.weights.damage is not None else 0.0
        value = round(max(RATING_MIN, merit - damage), _DECIMALS)
        return Rating(value, {"merit": round(merit, _DECIMALS), "damage": round(damage, _DECIMALS)})


def reward_rater(embedder: Embedder) -> LearnedRater:
    """The rater for the library behind the quality reward: it imitates the mean of Llama-3.1-8B and Mistral-7B."""
    return LearnedRater(embedder=embedder, head="llama+mistral", weights=REWARD)


def independent_judge(embedder: Embedder) -> LearnedRater:
    """The judge that watches training by :func:`reward_rater`: it imitates gpt-4o-mini, and learned from other rows.

    Independent in its rater and its rows; its embedder and the kind of its features are the same. How far the two go
    together, and both with length, is in ``docs/rewards.md``.
    """
    return LearnedRater(embedder=embedder, head="gpt-4o-mini", weights=JUDGE)
