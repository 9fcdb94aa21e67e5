"""Training of a learned rater on anybody's ratings: ridge heads, the map to classes, the damage model, honest figures.

Only numpy; closed forms but for a hundred Newton steps; the same input and seed give the same weights. Nothing that is
reported has seen the rows it is reported on: penalties and the map to classes are chosen by a cross-validation *inside*
each training part of the outer one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import RatingsError
from lm_mixup.raters.features import FEATURES
from lm_mixup.raters.learned import Damage, Floats, Head, Weights
from lm_mixup.records import RATING_MAX, RATING_MIN, rating_class

CLASSES = int(RATING_MAX) + 1

MIN_ROWS = 50
"""Fewer rated rows than this train no head: the folds would hold too few for a map to six classes."""

DAMAGE_FEATURES = (
    "echo",
    "repeated",
    "doubled",
    "refusal",
    "markup",
    "garbage",
    "mixed_scripts",
    "lower_start",
    "spacing",
    "stray_words",
)
"""What the damage model looks at. Signs of damage alone, so that no subject, length or style counts as damage."""

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval (percentile bootstrap over rows)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Report:
    """How well a head does on rows that it has not seen.

    ``ratings`` (n,) are the cross-validated ratings. ``spearman`` is their rank correlation with the rater's,
    ``length`` that of the completion's length alone, ``beyond_length`` the partial rank correlation given that length.
    ``shares`` (6, 2): share of each class, by the head and by the rater. ``high_auc``: the chance that a row which
    the rater calls high (class ≥ 4) is rated above one that it does not. ``merit_alone`` is the rank correlation
    without the damage model.
    """

    rows: int
    ratings: Floats
    spearman: Interval
    merit_alone: float
    length: Interval
    beyond_length: Interval
    shares: Floats
    high_auc: float


@dataclass(frozen=True)
class Settings:
    """How heads are trained.

    ``folds`` inner folds choose among ``vector_penalties`` × ``feature_penalties`` (ridge penalties on the weights of
    a unit vector's coordinates and of standardised features) by squared error. Features are clipped to their
    ``edge``–``1 − edge`` quantiles, widened by ``margin`` standard deviations; a feature that differs from its
    commonest value on fewer than ``min_support`` rows gets no weight.
    """

    seed: int = 0
    folds: int = 5
    vector_penalties: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    feature_penalties: tuple[float, ...] = (10.0, 100.0)
    edge: float = 0.05
    margin: float = 1.0
    min_support: int = 20


DEFAULTS = Settings()


def train(
    vectors: npt.NDArray[np.floating[Any]],
    features: Floats,
    ratings: Mapping[str, Floats],
    *,
    embedders: Sequence[str],
    damage: Damage | None = None,
    settings: Settings = DEFAULTS,
    card: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Weights, dict[str, Report]]:
    """One head for each rater in ``ratings``, and each head's cross-validated report.

    ``vectors`` (n, dim) and ``features`` (n, n_features; see :func:`lm_mixup.raters.features.matrix`) are of the
    rated rows; each value of ``ratings`` (n,) holds a rater's ratings in 0–5, NaN where it gave none. Raises
    RatingsError for fewer than 50 rated rows, or ratings out of range or all alike.
    """
    wide: Floats = np.asarray(vectors, dtype=np.float64)
    heads, reports = {}, {}
    for name, given in ratings.items():
        rated = np.flatnonzero(np.isfinite(given))
        _check(name, given[rated])
        v, f, y = wide[rated], features[rated], given[rated]
        reports[name] = cross_validate(v, f, y, damage=damage, settings=settings)
        heads[name] = fit_head(v, f, y, settings=settings)
    return Weights(tuple(embedders), MappingProxyType(heads), damage, card), reports


def _check(name: str, ratings: Floats) -> None:
    if len(ratings) < MIN_ROWS:
        raise RatingsError(f"rater {name!r}: expected at least {MIN_ROWS} rated rows to train on, got {len(ratings)}")
    if ratings.min() < RATING_MIN or ratings.max() > RATING_MAX:
        raise RatingsError(f"rater {name!r}: expected ratings in 0–5, got {ratings.min():g}–{ratings.max():g}")
    if ratings.min() == ratings.max():
        raise RatingsError(f"rater {name!r}: all ratings are {ratings[0]:g}; there is nothing to learn from")


def fit_head(vectors: Floats, features: Floats, ratings: Floats, *, settings: Settings = DEFAULTS) -> Head:
    """A head from ``vectors`` (n, dim), ``features`` (n, n_features) and ``ratings`` (n,) in 0–5."""
    low, high, mean, scale = _scaling(features, settings)
    clipped = np.clip(features, low, high)
    table = np.hstack([vectors, (clipped - mean) / scale])
    penalty, raw = _choose(table, vectors.shape[1], ratings, settings)
    weights, intercept = _ridge(table, ratings, penalty)
    on_features = weights[vectors.shape[1] :] / scale
    return Head(
        vector=weights[: vectors.shape[1]],
        features=on_features,
        low=low,
        high=high,
        intercept=float(intercept - mean @ on_features),
        knots=class_knots(raw, ratings),
    )


def _scaling(features: Floats, settings: Settings) -> tuple[Floats, Floats, Floats, Floats]:
    """Clipping range, mean and scale of each feature (n_features,); the scale of an unsupported one is infinite."""
    low, high = np.quantile(features, [settings.edge, 1.0 - settings.edge], axis=0)
    spread = features.std(axis=0)
    low, high = low - settings.margin * spread, high + settings.margin * spread
    clipped = np.clip(features, low, high)
    common = [np.unique(column, return_counts=True)[1].max() for column in features.T]
    supported = (len(features) - np.array(common) >= settings.min_support) & (clipped.std(axis=0) > 1e-9)
    return low, high, clipped.mean(axis=0), np.where(supported, clipped.std(axis=0), np.inf)


def folds_of(rows: int, folds: int, seed: int) -> _Ints:
    """(rows,) fold of each row, 0 to folds − 1, of equal size, drawn by ``seed``."""
    fold = np.empty(rows, dtype=np.int64)
    fold[np.random.default_rng(seed).permutation(rows)] = np.arange(rows) % folds
    return fold


def _choose(table: Floats, dim: int, ratings: Floats, settings: Settings) -> tuple[Floats, Floats]:
    """The penalty of each column that predicts unseen rows best, and those predictions (n,)."""
    fold = folds_of(len(ratings), settings.folds, settings.seed + 1)
    grid = [
        np.repeat([on_vector, on_features], [dim, table.shape[1] - dim])
        for on_vector, on_features in product(settings.vector_penalties, settings.feature_penalties)
    ]
    raw = np.empty((len(grid), len(ratings)))
    for this in range(settings.folds):
        inside, outside = fold != this, fold == this
        centre, offset = table[inside].mean(axis=0), ratings[inside].mean()
        part = table[inside] - centre
        gram, target = part.T @ part, part.T @ (ratings[inside] - offset)
        for row, penalty in zip(raw, grid, strict=True):
            row[outside] = (table[outside] - centre) @ np.linalg.solve(gram + np.diag(penalty), target) + offset
    best = int(np.argmin(((raw - ratings) ** 2).mean(axis=1)))
    return grid[best], raw[best]


def _ridge(table: Floats, ratings: Floats, penalty: Floats) -> tuple[Floats, float]:
    centre, offset = table.mean(axis=0), ratings.mean()
    part = table - centre
    weights: Floats = np.linalg.solve(part.T @ part + np.diag(penalty), part.T @ (ratings - offset))
    return weights, float(offset - centre @ weights)


def class_knots(raw: Floats, ratings: Floats) -> Floats:
    """(k, 2) knots of a strictly increasing map under which ``raw`` (n,) has the class shares of ``ratings`` (n,).

    The boundary below class c (rating c − 0.5) is where as many rows lie below in ``raw`` as have a lower class in
    ``ratings``; the smallest and largest ``raw`` get a rating short of the outer end of the outermost class, for
    others to lie beyond.
    """
    classes = np.array([rating_class(r) for r in ratings])
    order = np.sort(raw)
    # a rater that never gives a 5 is not made to give one inside the range seen
    points = [(order[0], max(RATING_MIN + 0.15, classes.min() - 0.25))]
    for upper in range(CLASSES - 1):
        below = int((classes <= upper).sum())
        if 0 < below < len(order):
            points.append(((order[below - 1] + order[below]) / 2, upper + 0.5))
    points.append((order[-1], min(RATING_MAX - 0.15, classes.max() + 0.25)))
    knots = [points[0]]
    for x, y in points[1:]:
        if x - knots[-1][0] > 1e-9:
            knots.append((x, y))
        else:  # an empty class, or ties: one step for both
            knots[-1] = (knots[-1][0], (knots[-1][1] + y) / 2)
    if len(knots) == 1:
        x, y = knots[0]
        knots = [(x - 1.0, (RATING_MIN + y) / 2), (x + 1.0, (RATING_MAX + y) / 2)]
    return np.array(knots, dtype=np.float64)


def cross_validate(
    vectors: Floats,
    features: Floats,
    ratings: Floats,
    *,
    damage: Damage | None = None,
    settings: Settings = DEFAULTS,
    folds: int = 5,
    draws: int = 1000,
) -> Report:
    """The report of a head trained ``folds`` times on all but one fold (choices made inside). Intervals: ``draws``."""
    fold = folds_of(len(ratings), folds, settings.seed)
    merit = np.empty(len(ratings))
    for this in range(folds):
        inside = fold != this
        head = fit_head(vectors[inside], features[inside], ratings[inside], settings=settings)
        merit[~inside] = [head.merit(vectors[i], features[i]) for i in np.flatnonzero(~inside)]
    lost = np.array([damage.loss(row) if damage is not None else 0.0 for row in features])
    rated = np.maximum(RATING_MIN, merit - lost)
    length = features[:, list(FEATURES).index("completion_words")]
    own, theirs = (np.array([rating_class(r) for r in part]) for part in (rated, ratings))
    resample = np.random.default_rng(settings.seed).integers(len(ratings), size=(draws, len(ratings)))

    def interval(kind: str) -> Interval:
        values = [_figure(kind, rated[i], ratings[i], length[i]) for i in resample]
        low, high = np.quantile(values, [0.025, 0.975])
        return Interval(_figure(kind, rated, ratings, length), float(low), float(high))

    return Report(
        rows=len(ratings),
        ratings=rated,
        spearman=interval("spearman"),
        merit_alone=spearman(merit, ratings),
        length=interval("length"),
        beyond_length=interval("beyond_length"),
        shares=np.array([[(part == c).mean() for part in (own, theirs)] for c in range(CLASSES)]),
        high_auc=_auc(rated, theirs >= 4),
    )


def _figure(kind: str, rated: Floats, ratings: Floats, length: Floats) -> float:
    if kind == "length":
        return spearman(length, ratings)
    ours = spearman(rated, ratings)
    if kind == "spearman":
        return ours
    a, b = spearman(rated, length), spearman(ratings, length)
    return float((ours - a * b) / max(1e-12, np.sqrt((1 - a * a) * (1 - b * b))))


def ranks(values: Floats) -> Floats:
    """(n,) ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation of two (n,) arrays; 0 where one of them is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else 0.0


def _auc(scores: Floats, high: npt.NDArray[np.bool_]) -> float:
    many, few = int(high.sum()), int((~high).sum())
    if not many or not few:
        return float("nan")
    return float((ranks(scores)[high].sum() - many * (many + 1) / 2) / (many * few))


def fit_damage(
    features: Floats,
    drops: Floats,
    *,
    points: float = 2.0,
    threshold: float = 0.25,
    penalty: float = 1.0,
    edge: float = 0.002,
    steps: int = 100,
) -> Damage:
    """The damage model from texts of which it is known how far they fall.

    ``features`` (n, n_features) of sound and damaged texts, ``drops`` (n,) the points of 0–``points`` that each loses,
    0 for sound ones. Sound and damaged weigh the same in sum. Logistic regression on soft labels by Newton steps,
    ridge ``penalty`` on standardised features, features clipped to their ``edge`` quantiles; no weight may say that a
    sign of damage is good.
    """
    columns = np.array([name in DAMAGE_FEATURES for name in FEATURES])
    low, high = features.min(axis=0), np.quantile(features, 1.0 - edge, axis=0)
    clipped = np.clip(features, low, high)
    scale = clipped.std(axis=0)
    used = np.flatnonzero(columns & (scale > 1e-9))
    # where the fit is perfect, Damage.loss gives back the drop
    label = np.where(drops > 0, threshold + (1.0 - threshold) * np.minimum(1.0, drops / points), 0.0)
    weight = np.where(drops > 0, 0.5 / max(1, (drops > 0).sum()), 0.5 / max(1, (drops <= 0).sum())) * len(drops)
    while True:
        table = np.hstack([clipped[:, used] / scale[used], np.ones((len(clipped), 1))])
        fitted = _logistic(table, label, weight, penalty, steps)
        if (fitted[:-1] >= 0).all():
            break
        used = used[fitted[:-1] > 0]
    on_features = np.zeros(features.shape[1])
    on_features[used] = fitted[:-1] / scale[used]
    return Damage(on_features, low, high, float(fitted[-1]), points, threshold)


def _logistic(table: Floats, label: Floats, weight: Floats, penalty: float, steps: int) -> Floats:
    fitted = np.zeros(table.shape[1])
    ridge = np.full(table.shape[1], penalty)
    ridge[-1] = 1e-6
    for _ in range(steps):
        share = 1.0 / (1.0 + np.exp(-np.clip(table @ fitted, -30.0, 30.0)))
        slope = table.T @ (weight * (share - label)) + ridge * fitted
        curve = (table * (weight * np.maximum(share * (1 - share), 1e-4))[:, None]).T @ table + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        fitted = fitted - step
        if np.abs(step).max() < 1e-9:
            break
    return fitted
