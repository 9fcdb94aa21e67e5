"""Rated libraries: embedded samples with their ratings, one shelf a task type, in safe files.

A library is a folder: ``library.json`` (what it is, and every figure) and one ``TYPE.npz`` a shelf (arrays of numbers).
Nothing in it can run code when it is read. The text that is embedded is :attr:`Sample.text`, prompt and completion, for
library and queries alike, so an ``mcq`` keeps its answer line on both sides.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup import neighbors
from lm_mixup.errors import ModelError, RatingsError
from lm_mixup.files import replacing, write_bytes
from lm_mixup.raters.posterior import (
    CLASSES,
    Floats,
    Ints,
    Reliability,
    class_shares,
    evidence,
    fit_temperature,
    histograms,
    log_likelihood,
    posterior,
    reliability,
    transition_matrix,
)
from lm_mixup.raters.training import folds_of, spearman
from lm_mixup.records import RATING_MAX, RATING_MIN, Sample, TaskType, rating_class

FORMAT = 1
"""Layout of the files; raised when an older reader could not read a newer library."""

_HEAD = "library.json"
_RANKS = np.arange(CLASSES, dtype=np.float64)


@dataclass(frozen=True)
class LibrarySettings:
    """How a library is counted.

    ``neighbors`` (k) vote on a query's class, ``near`` (k_t) neighbours fill the transition matrix, ``smoothing`` is
    added to its counts: all METHOD § 3 [R]. ``temper`` False leaves the temperature at 1, the paper's. Held-out figures
    come from ``folds`` folds drawn by ``seed``.
    """

    neighbors: int = 16
    near: int = 3
    smoothing: float = 0.01
    temper: bool = True
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Figures:
    """How well a shelf rates its own rows, each held out: its rating by its neighbours, counted without its fold.

    ``calibration_error`` before and after tempering (the temperature of each fold found on the others), and how far the
    rating is off on average (points of 0–5): the posterior mean, the neighbours' mean, and the shelf's mean for every
    row. ``spearman`` is the posterior mean's rank correlation with the rating. ``likelihood``: mean log posterior of
    the true class.
    """

    rows: int
    calibration_error_before: float
    calibration_error: float
    likelihood_before: float
    likelihood: float
    error: float
    error_of_neighbors_mean: float
    error_of_shelf_mean: float
    spearman: float
    reliability_before: Reliability
    reliability: Reliability


@dataclass(frozen=True)
class Shelf:
    """The rated rows of one task type.

    ``vectors`` (n, dim) float16 unit rows; ``ratings`` (n,) in 0–5; ``digests`` (n, 16) uint8, the rows' content
    hashes, no two alike; ``transition`` (6, 6), ``prior`` (6,) and ``temperature`` as in
    :mod:`lm_mixup.raters.posterior`.
    """

    vectors: npt.NDArray[np.float16]
    ratings: Floats
    digests: npt.NDArray[np.uint8]
    transition: Floats
    prior: Floats
    temperature: float
    figures: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.ratings)

    @property
    def classes(self) -> Ints:
        """(n,) the rounded ratings."""
        return np.array([rating_class(r) for r in self.ratings.tolist()], dtype=np.int64)


@dataclass(frozen=True)
class RatedLibrary:
    """Shelves by task type, the key of the embedder whose vectors they hold, and whose ratings these are."""

    embedder: str
    rater: str
    settings: LibrarySettings
    shelves: Mapping[TaskType, Shelf]

    def digest(self) -> str:
        """Hash of everything that a rating depends on: 12 hex digits."""
        whole = hashlib.blake2b(digest_size=6)
        whole.update(f"{FORMAT} {self.embedder} {self.settings.neighbors}".encode())
        for task_type, shelf in sorted(self.shelves.items()):
            whole.update(f"{task_type} {shelf.vectors.shape} {shelf.temperature!r}".encode())
            for array in (shelf.vectors, shelf.ratings, shelf.digests, shelf.transition, shelf.prior):
                whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the library into ``folder``; ``library.json`` comes last, so a folder that has one is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        head: dict[str, Any] = {
            "format": FORMAT,
            "digest": self.digest(),
            "embedder": self.embedder,
            "rater": self.rater,
            "settings": asdict(self.settings),
            "shelves": {},
        }
        (folder / _HEAD).unlink(missing_ok=True)
        for task_type, shelf in self.shelves.items():
            with replacing(folder / f"{task_type}.npz") as temporary, temporary.open("wb") as out:
                np.savez(out, vectors=shelf.vectors, ratings=shelf.ratings, digests=shelf.digests)
            head["shelves"][str(task_type)] = {
                "rows": len(shelf),
                "temperature": shelf.temperature,
                "prior": shelf.prior.tolist(),
                "transition": shelf.transition.tolist(),
                "figures": dict(shelf.figures),
            }
        write_bytes(folder / _HEAD, (json.dumps(head, indent=1, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> RatedLibrary:
        """Read what :meth:`save` wrote. Raises ModelError where it is missing, damaged or of another version."""
        try:
            head = json.loads((folder / _HEAD).read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise ModelError(
                    f"{folder}: expected a rated library of format {FORMAT}, got {head['format']!r}; build it again"
                )
            shelves = {TaskType(name): _load_shelf(folder, name, told) for name, told in head["shelves"].items()}
            library = cls(
                head["embedder"], head["rater"], LibrarySettings(**head["settings"]), MappingProxyType(shelves)
            )
            whole = library.digest() == head["digest"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{folder}: expected a rated library ({_HEAD} and one .npz a task type), got "
                f"{type(error).__name__}: {error}; lm-mixup library build writes one"
            ) from error
        if not whole:
            raise ModelError(f"{folder}: its numbers are not those that {_HEAD} names; build the library again")
        return library


def _load_shelf(folder: Path, name: str, told: Mapping[str, Any]) -> Shelf:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        vectors, ratings, digests = (file[part] for part in ("vectors", "ratings", "digests"))
    rows = int(told["rows"])
    if vectors.ndim != 2 or len(vectors) != rows or ratings.shape != (rows,) or digests.shape != (rows, 16):
        raise ValueError(f"shelf {name}: expected {rows} rows, got {vectors.shape}, {ratings.shape}, {digests.shape}")
    return Shelf(
        vectors.astype(np.float16, copy=False),
        ratings.astype(np.float64, copy=False),
        digests.astype(np.uint8, copy=False),
        np.array(told["transition"], dtype=np.float64).reshape(CLASSES, CLASSES),
        np.array(told["prior"], dtype=np.float64).reshape(CLASSES),
        float(told["temperature"]),
        MappingProxyType(told["figures"]),
    )


def build(
    samples: Sequence[Sample],
    ratings: Sequence[float],
    vectors: npt.NDArray[np.floating[Any]],
    *,
    embedder: str,
    rater: str,
    settings: LibrarySettings | None = None,
) -> RatedLibrary:
    """A library of ``samples`` with their ``ratings`` (0–5) and ``vectors`` (n, dim), the embeddings of their text.

    ``embedder`` is the embedder's key, ``rater`` names whose ratings these are. Equal samples become one row with their
    mean rating. Raises RatingsError for a rating out of range, and for a task type with no more rows than a query has
    neighbours: such a shelf would give every query the same answer.
    """
    settings = settings or LibrarySettings()
    if not len(samples) == len(ratings) == len(vectors):
        raise ValueError(f"expected as many ratings and vectors as samples, got {len(samples)}, {len(ratings)}")
    by_type: dict[TaskType, list[int]] = {}
    for row, (sample, rating) in enumerate(zip(samples, ratings, strict=True)):
        if not RATING_MIN <= rating <= RATING_MAX:
            raise RatingsError(f"sample {sample.id!r}: expected a rating in 0–5, got {rating!r}")
        by_type.setdefault(sample.task_type, []).append(row)
    if not by_type:
        raise RatingsError("rated library: no rated rows were given")
    merged = {t: _merge([samples[i].digest for i in rows], rows, ratings) for t, rows in by_type.items()}
    small = [f"{t} has {len(m[0])}" for t, m in merged.items() if len(m[0]) <= settings.neighbors]
    if small:
        raise RatingsError(
            f"rated library: expected more than k = {settings.neighbors} different rated rows of each task type, "
            f"{', '.join(small)}; rate more rows, leave these types out, or use a smaller k"
        )
    shelves = {
        t: _shelf(vectors[rows], values, digests, settings) for t, (rows, values, digests) in sorted(merged.items())
    }
    return RatedLibrary(embedder, rater, settings, MappingProxyType(shelves))


def _merge(
    digests: Sequence[str], rows: Sequence[int], ratings: Sequence[float]
) -> tuple[Ints, Floats, npt.NDArray[np.uint8]]:
    """First row, mean rating and content hash of each different sample."""
    groups: dict[str, list[int]] = {}
    for digest, row in zip(digests, rows, strict=True):
        groups.setdefault(digest, []).append(row)
    firsts = np.array([group[0] for group in groups.values()], dtype=np.int64)
    means = np.array([np.mean([ratings[i] for i in g]) if len(g) > 1 else ratings[g[0]] for g in groups.values()])
    hashes = np.frombuffer(bytes.fromhex("".join(groups)), dtype=np.uint8).reshape(-1, 16)
    return firsts, means, hashes


def _shelf(
    vectors: npt.NDArray[np.floating[Any]], ratings: Floats, digests: npt.NDArray[np.uint8], settings: LibrarySettings
) -> Shelf:
    held = vectors.astype(np.float16)
    classes = np.array([rating_class(r) for r in ratings.tolist()], dtype=np.int64)
    graph = neighbors.build(held, max(settings.neighbors, settings.near), seed=settings.seed)
    voters = graph.ids[:, : settings.neighbors]
    h, near = histograms(classes[voters]), histograms(classes[graph.ids[:, : settings.near]])
    transition = transition_matrix(classes, near, settings.smoothing)
    prior = class_shares(classes, settings.smoothing)
    said, priors = _held_out_evidence(h, near, classes, settings)
    temperature = fit_temperature(said, priors, classes) if settings.temper else 1.0
    figures = _figures(said, priors, ratings, ratings[voters].mean(axis=1), settings)
    return Shelf(held, ratings, digests, transition, prior, temperature, MappingProxyType(_as_json(figures)))


def _held_out_evidence(h: Floats, near: Floats, classes: Ints, settings: LibrarySettings) -> tuple[Floats, Floats]:
    """(n, 6) evidence and (n, 6) prior of every row, counted over the rows of the other folds."""
    fold = folds_of(len(classes), settings.folds, settings.seed)
    said, priors = np.empty((len(classes), CLASSES)), np.empty((len(classes), CLASSES))
    for this in range(settings.folds):
        inside, outside = fold != this, fold == this
        said[outside] = evidence(h[outside], transition_matrix(classes[inside], near[inside], settings.smoothing))
        priors[outside] = class_shares(classes[inside], settings.smoothing)
    return said, priors


def _figures(
    said: Floats, priors: Floats, ratings: Floats, neighbor_means: Floats, settings: LibrarySettings
) -> Figures:
    classes = np.array([rating_class(r) for r in ratings.tolist()], dtype=np.int64)
    fold = folds_of(len(classes), settings.folds, settings.seed + 1)
    tempered = np.empty_like(said)
    likelihood = 0.0
    for this in range(settings.folds):
        inside, outside = fold != this, fold == this
        temperature = fit_temperature(said[inside], priors[inside], classes[inside]) if settings.temper else 1.0
        tempered[outside] = posterior(said[outside], priors[outside], temperature)
        likelihood += outside.mean() * log_likelihood(said[outside], priors[outside], classes[outside], temperature)
    plain = posterior(said, priors, 1.0)
    means = tempered @ _RANKS
    before, after = reliability(plain, classes), reliability(tempered, classes)
    return Figures(
        rows=len(classes),
        calibration_error_before=before.error,
        calibration_error=after.error,
        likelihood_before=log_likelihood(said, priors, classes, 1.0),
        likelihood=float(likelihood),
        error=float(np.abs(means - ratings).mean()),
        error_of_neighbors_mean=float(np.abs(neighbor_means - ratings).mean()),
        error_of_shelf_mean=float(np.abs(ratings.mean() - ratings).mean()),
        spearman=spearman(means, ratings),
        reliability_before=before,
        reliability=after,
    )


def _as_json(figures: Figures) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in vars(figures).items():
        if isinstance(value, Reliability):
            out[name] = {part: np.round(array, 4).tolist() for part, array in vars(value).items()}
        else:
            out[name] = round(value, 4) if isinstance(value, float) else value
    return out
