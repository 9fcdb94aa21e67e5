"""Judging the judges: what several raters' ratings of the same rows say about each other, and about length.

Pure functions of arrays. A rater's ratings are (n,) floats in 0–5, NaN where it gave none; figures of two raters are
over the rows that both rated. Confusion, kappa and exact agreement go by class (the rounded rating).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import RatingsError
from lm_mixup.raters.training import Interval, ranks, spearman
from lm_mixup.records import RATING_MAX, RATING_MIN

Floats = npt.NDArray[np.float64]

CLASSES = int(RATING_MAX) + 1

MIN_ROWS = 20
"""Fewer rows than this that two raters share tell nothing."""


@dataclass(frozen=True)
class Rule:
    """When a rater is said to measure length alone.

    Its rank correlation with length is ``copy`` or more either way: it is length. Or it is at least ``leaning``, and
    what of its ratings length does not tell agrees with nobody: the 95 % interval of the partial rank correlation
    with the other raters' mean, given length, ends below ``beyond``. Without another rater to ask, ``alone`` takes
    the place of the second.
    """

    copy: float = 0.95
    leaning: float = 0.3
    beyond: float = 0.1
    alone: float = 0.8


@dataclass(frozen=True)
class Length:
    """How a rater follows the completion's length in words.

    ``correlation``: rank correlation with it. ``beyond``: partial rank correlation with the mean of the other raters,
    given length; None where there is no other. ``verdict``: "measures length alone" by :class:`Rule`, or "".
    """

    correlation: Interval
    beyond: Interval | None
    verdict: str


@dataclass(frozen=True)
class Draws:
    """A rater against itself, over rows that it rated ``draws`` times.

    ``correlation``, ``exact`` and ``within_one``: means over the pairs of draws. ``spread``: mean standard deviation
    of a row's draws, in points. ``reliability``: share of a draw's variance that lies between rows (one-way
    intraclass correlation); no rater can be expected to correlate with one draw by more than its square root.
    """

    rows: int
    draws: int
    correlation: float
    exact: float
    within_one: float
    spread: float
    reliability: float


@dataclass(frozen=True)
class Pair:
    """Two raters on the ``rows`` that both rated.

    ``correlation`` Spearman; ``exact`` and ``within_one``: shares of rows by class; ``kappa`` and ``weighted_kappa``
    (quadratic weights): agreement beyond what the two class distributions give by chance. ``bias``: mean of the first
    less mean of the second, in points. ``confusion`` (6, 6): rows by class of the first (row) and of the second
    (column). ``calibration`` (6,): mean rating by the second where the first gave each class, NaN where it gave none;
    ``calibration_error``: mean over rows of the distance between the first's class and that mean, in points; ``back``
    and ``back_error``: the same with the two exchanged.
    """

    first: str
    second: str
    rows: int
    correlation: Interval
    exact: float
    within_one: float
    kappa: float
    weighted_kappa: float
    bias: float
    confusion: npt.NDArray[np.int64]
    calibration: Floats
    calibration_error: float
    back: Floats
    back_error: float


@dataclass(frozen=True)
class Comparison:
    """What is said of the raters alone and in pairs. ``agreement`` (m, m): Spearman; ``weighted_kappa`` (m, m)."""

    raters: tuple[str, ...]
    rows: Mapping[str, int]
    shares: Mapping[str, Floats]
    lengths: Mapping[str, Length]
    draws: Mapping[str, Draws]
    pairs: tuple[Pair, ...]
    agreement: Floats
    weighted_kappa: Floats
    notes: tuple[str, ...] = field(default=())


def compare(
    ratings: Mapping[str, Floats],
    lengths: Floats | None = None,
    *,
    draws: Mapping[str, Floats] = MappingProxyType({}),
    rule: Rule | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare raters on the same rows.

    ``ratings``: name → (n,) ratings. ``lengths`` (n,): words of the completions; None leaves out what needs them.
    ``draws``: name → (n, d) repeated ratings of the same rater, NaN where missing. Intervals are 95 % percentile
    bootstraps over rows (``resamples`` of them, drawn by ``seed``). Raises RatingsError for ratings out of range,
    arrays of different length and a rater with fewer than 20 ratings.
    """
    for name, values in ratings.items():
        _check(name, values, len(next(iter(ratings.values()))))
    if lengths is not None and len(lengths) != len(next(iter(ratings.values()))):
        raise RatingsError(f"expected a length for each of the {len(next(iter(ratings.values())))} rows")
    names = tuple(ratings)
    resample = _Resample(resamples, seed)
    notes: list[str] = []
    pairs = []
    for a, b in combinations(names, 2):
        both = int((np.isfinite(ratings[a]) & np.isfinite(ratings[b])).sum())
        if both < MIN_ROWS:
            notes.append(f"{a} and {b} share {both} rows; {MIN_ROWS} are needed to compare them")
        else:
            pairs.append(_pair(a, b, ratings[a], ratings[b], resample))
    agreement, weighted = np.full((len(names), len(names)), np.nan), np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(agreement, 1.0)
    np.fill_diagonal(weighted, 1.0)
    for pair in pairs:
        i, j = names.index(pair.first), names.index(pair.second)
        agreement[i, j] = agreement[j, i] = pair.correlation.value
        weighted[i, j] = weighted[j, i] = pair.weighted_kappa
    told = {} if lengths is None else {n: _length(n, ratings, lengths, rule or Rule(), resample) for n in names}
    return Comparison(
        raters=names,
        rows={n: int(np.isfinite(ratings[n]).sum()) for n in names},
        shares={
            n: np.bincount(classes(v[np.isfinite(v)]), minlength=CLASSES) / np.isfinite(v).sum()
            for n, v in ratings.items()
        },
        lengths=told,
        draws={n: self_consistency(table) for n, table in draws.items()},
        pairs=tuple(pairs),
        agreement=agreement,
        weighted_kappa=weighted,
        notes=tuple(notes),
    )


def _check(name: str, values: Floats, rows: int) -> None:
    given = values[np.isfinite(values)]
    if len(values) != rows:
        raise RatingsError(f"rater {name!r}: expected {rows} ratings, as many as there are rows, got {len(values)}")
    if len(given) < MIN_ROWS:
        raise RatingsError(f"rater {name!r}: expected at least {MIN_ROWS} rated rows to compare, got {len(given)}")
    if given.min() < RATING_MIN or given.max() > RATING_MAX:
        raise RatingsError(f"rater {name!r}: expected ratings in 0–5, got {given.min():g}–{given.max():g}")


class _Resample:
    """Percentile bootstrap over rows; the same rows for figures over as many."""

    def __init__(self, draws: int, seed: int) -> None:
        self._draws, self._seed = draws, seed

    def interval(self, figure: Callable[..., float], *arrays: Floats) -> Interval:
        rng = np.random.default_rng(self._seed)
        rows = len(arrays[0])
        values = []
        for _ in range(self._draws):
            drawn = rng.integers(rows, size=rows)
            values.append(figure(*(array[drawn] for array in arrays)))
        low, high = np.quantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
        return Interval(figure(*arrays), float(low), float(high))


def classes(values: Floats) -> npt.NDArray[np.int64]:
    """The class 0–5 of each rating, halves upwards."""
    return np.floor(np.clip(values, RATING_MIN, RATING_MAX) + 0.5).astype(np.int64)


def confusion(first: Floats, second: Floats) -> npt.NDArray[np.int64]:
    """(6, 6) rows by class of the first (row) and of the second (column)."""
    flat = classes(first) * CLASSES + classes(second)
    return np.bincount(flat, minlength=CLASSES * CLASSES).reshape(CLASSES, CLASSES).astype(np.int64)


def kappa(table: npt.NDArray[np.int64], *, quadratic: bool = False) -> float:
    """Cohen's kappa of a (6, 6) confusion, or its quadratically weighted form; 0 where chance alone agrees fully."""
    shares = table / table.sum()
    chance = np.outer(shares.sum(axis=1), shares.sum(axis=0))
    index = np.arange(CLASSES)
    gap = (index[:, None] - index[None, :]).astype(np.float64)
    cost = gap**2 if quadratic else (gap != 0).astype(np.float64)
    expected = float((cost * chance).sum())
    return 1.0 - float((cost * shares).sum()) / expected if expected > 0 else 0.0


def partial(a: Floats, b: Floats, given: Floats) -> float:
    """Rank correlation of ``a`` and ``b`` with ``given`` held fixed; 0 where either is told by ``given`` altogether."""
    ab, ag, bg = spearman(a, b), spearman(a, given), spearman(b, given)
    room = (1 - ag * ag) * (1 - bg * bg)
    return float((ab - ag * bg) / np.sqrt(room)) if room > 1e-9 else 0.0


def by_class(first: Floats, second: Floats) -> tuple[Floats, float]:
    """(6,) mean of ``second`` where ``first`` gave each class (NaN: never), and the mean distance of the two by row."""
    given = classes(first)
    rows = np.bincount(given, minlength=CLASSES)
    sums = np.bincount(given, second, minlength=CLASSES)
    means = np.divide(sums, rows, out=np.full(CLASSES, np.nan), where=rows > 0)
    distance = np.abs(means - np.arange(CLASSES))
    return means, float(np.nansum(distance * rows) / rows.sum())


def _pair(first: str, second: str, a: Floats, b: Floats, resample: _Resample) -> Pair:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    table = confusion(a, b)
    gap = np.abs(classes(a) - classes(b))
    calibration, error = by_class(a, b)
    back, back_error = by_class(b, a)
    return Pair(
        first=first,
        second=second,
        rows=len(a),
        correlation=resample.interval(spearman, a, b),
        exact=float((gap == 0).mean()),
        within_one=float((gap <= 1).mean()),
        kappa=kappa(table),
        weighted_kappa=kappa(table, quadratic=True),
        bias=float(a.mean() - b.mean()),
        confusion=table,
        calibration=calibration,
        calibration_error=error,
        back=back,
        back_error=back_error,
    )


def _length(name: str, ratings: Mapping[str, Floats], lengths: Floats, rule: Rule, resample: _Resample) -> Length:
    own = ratings[name]
    rated = np.isfinite(own)
    correlation = resample.interval(spearman, own[rated], lengths[rated])
    others = others_mean(name, ratings)
    both = rated & np.isfinite(others)
    beyond = None
    if both.sum() >= MIN_ROWS:
        beyond = resample.interval(partial, own[both], others[both], lengths[both])
    return Length(correlation, beyond, _verdict(correlation, beyond, rule))


def others_mean(name: str, ratings: Mapping[str, Floats]) -> Floats:
    """(n,) mean over the other raters of their ranks, where all of them rated the row; NaN elsewhere, or if none is."""
    others = [values for other, values in ratings.items() if other != name]
    if not others:
        return np.full(len(ratings[name]), np.nan)
    table = np.stack(others)
    every = np.isfinite(table).all(axis=0)
    out = np.full(table.shape[1], np.nan)
    # ranks, so that a rater that uses more of the scale does not outvote the others
    out[every] = np.mean([ranks(row[every]) for row in table], axis=0) if every.any() else np.nan
    return out


def _verdict(correlation: Interval, beyond: Interval | None, rule: Rule) -> str:
    strength = abs(correlation.value)
    if strength >= rule.copy:
        only = True
    elif beyond is None:
        only = strength >= rule.alone
    else:
        only = strength >= rule.leaning and beyond.high < rule.beyond
    return "measures length alone" if only else ""


def self_consistency(table: Floats) -> Draws:
    """How a rater agrees with itself; ``table`` (n, d ≥ 2), rows with a missing draw are left out.

    Raises RatingsError for fewer than two draws or fewer than 20 whole rows.
    """
    whole = table[np.isfinite(table).all(axis=1)]
    rows, draws = whole.shape
    if draws < 2 or rows < MIN_ROWS:
        raise RatingsError(f"self-consistency: expected two draws of {MIN_ROWS} rows or more, got {draws} of {rows}")
    pairs = list(combinations(range(draws), 2))
    gaps = [np.abs(classes(whole[:, i]) - classes(whole[:, j])) for i, j in pairs]
    within = float(whole.var(axis=1, ddof=1).mean())
    between = float(whole.mean(axis=1).var(ddof=1)) - within / draws
    total = between + within
    return Draws(
        rows=rows,
        draws=draws,
        correlation=float(np.mean([spearman(whole[:, i], whole[:, j]) for i, j in pairs])),
        exact=float(np.mean([(gap == 0).mean() for gap in gaps])),
        within_one=float(np.mean([(gap <= 1).mean() for gap in gaps])),
        spread=float(whole.std(axis=1, ddof=1).mean()),
        reliability=max(0.0, between / total) if total > 0 else 0.0,
    )


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON-able values: arrays as lists, figures rounded to four places, NaN as null."""
    out: dict[str, Any] = _plain(found)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(entry) for entry in value.tolist()]
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value
