"""Cascade: a costly rater where it tells most, a learned one everywhere else.

A pool of n rows, a judge that is asked about a share of them, and the question which rows are *high* (class ≥ 4)::

    pilot     a little of it spread over the pool, the rest over its longer answers, no two alike    judge
    rounds    learn from all that was judged; ask about the rows likeliest to be high; again         judge
    rest      rated by what was learned; high only where that beats leaving them out                 learned

Few rows are high, so the rows near the high line of which a rater is unsure are those that it ranks highest: with one
row in eight high, hardly any row is likelier than not to be. Where few ratings are known, length is the best guess,
so it enters the regression nearly free of penalty, and the rest must earn its weight.

What is learned is a :class:`lm_mixup.raters.learned.Head`, explainable number by number. How well this does, against
a random choice and against longest-first: ``docs/raters/cascade.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InputError, RatingsError
from lm_mixup.raters.cascade_numbers import apart, auc, chance_of, held_out, principal, ridge, scaled, standard
from lm_mixup.raters.features import FEATURES
from lm_mixup.raters.learned import Head, interpolate
from lm_mixup.raters.training import CLASSES, MIN_ROWS, class_knots
from lm_mixup.records import RATING_MAX, RATING_MIN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Ask = Callable[[Ints], Floats]
"""Row numbers → the judge's ratings in 0–5, NaN where it failed."""

_LENGTH = list(FEATURES).index("completion_words")
_LEAST_SPREAD = 10
"""Rows of the pilot that are spread over the pool in any case: promising rows alone do not show what others are."""

_NEVER = 2.0
"""Above every chance."""


@dataclass(frozen=True)
class Plan:
    """How much is judged and how it is chosen; all [O].

    ``share`` of the pool is judged, at least 50 rows. The pilot takes ``pilot`` of it, of which ``spread`` (at least 10
    rows) is drawn over the whole pool and the rest with weights (rank by length and start / n) ^ ``tilt``; ``rounds``
    rounds take what is left. A rating counts ``lift`` points more from class ``high`` on, so that the regression minds
    that line.

    Regressions under all of ``vector_penalties`` × ``feature_penalties`` are averaged, the better they tell high rows
    in ``folds`` folds the more (a difference of ``blend`` in AUC is a factor of e). ``directions``: principal
    directions of the vectors that a regression sees. Length is added to it with weight ``length`` (in standard
    deviations), times how much of the regression's advantage over chance length alone has: all where nothing but
    length tells, none where length tells nothing.

    A row that was not judged is called high from a chance of ``margin`` × the expected F1 on; 0.5 is best for true
    chances, and chances of picked rows are overestimated. From a chance of ``unsure`` on, something new may be high
    (:attr:`Learned.unsure`).
    """

    share: float = 0.2
    pilot: float = 0.2
    spread: float = 0.05
    tilt: float = 12.0
    rounds: int = 16
    high: int = 4
    lift: float = 1.5
    folds: int = 5
    vector_penalties: tuple[float, ...] = (1.0, 4.0, 16.0, 1e5)
    feature_penalties: tuple[float, ...] = (10.0, 100.0, 1e5)
    directions: int = 128
    blend: float = 0.03
    length: float = 2.0
    margin: float = 0.6
    unsure: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"cascade: expected a share of the pool in (0, 1], got {self.share:g}")

    def questions(self, rows: int) -> int:
        """How many of so many rows the judge is asked about."""
        return min(rows, max(MIN_ROWS, round(self.share * rows)))


@dataclass(frozen=True)
class Round:
    """One batch of questions: how many were asked and answered, how many of them high, how many had been expected."""

    why: str
    asked: int
    answered: int
    high: int
    expected_high: float


@dataclass(frozen=True)
class Learned:
    """What came of it.

    ``rows`` (m,) were asked about, in this order, and the judge said ``said`` (m,), NaN where it failed. ``ratings``
    (n,): the judge's word where there is one, else the head's. ``high_chance`` (n,): 0 or 1 for judged rows; for the
    others a rough one, good for ordering them. ``unsure``: the head's rating from which on something new may be high.
    """

    rows: Ints
    said: Floats
    ratings: Floats
    high_chance: Floats
    head: Head
    rounds: tuple[Round, ...]
    unsure: float


def learn(
    vectors: npt.NDArray[np.floating[Any]],
    features: Floats,
    ask: Ask,
    *,
    plan: Plan | None = None,
    start: Floats | None = None,
    chosen: Ints | None = None,
    luck: Floats | None = None,
) -> Learned:
    """Choose rows, ask, learn, and rate all: ``vectors`` (n, dim), ``features`` (n, n_features).

    ``luck`` (n, 2): each row's luck in drawing, uniform in (0, 1]. Where it comes from the rows' content
    (:func:`luck_of`), a pool with a few rows changed has nearly the same rows chosen. None: drawn by the plan's seed.

    ``start`` (n,): what a cheap rater says of every row (the shipped learned one, for example). It helps to choose
    the rows, beside length, as far as the judge turns out to agree with it; what is learned rests on the judge alone.
    ``chosen`` takes the place of the pilot and the rounds: these rows are asked about, and no others. The same input,
    answers and plan give the same result. Raises RatingsError for a pool of fewer than 50 rows, or where the judge
    answers fewer than 50 questions.
    """
    plan = plan or Plan()
    rows = len(vectors)
    if rows < MIN_ROWS:
        raise RatingsError(
            f"cascade: expected a pool of at least {MIN_ROWS} rows, got {rows}; let the judge rate them all"
        )
    luck = 1.0 - np.random.default_rng(plan.seed).random((rows, 2)) if luck is None else luck
    learning = _Learning(vectors, features, ask, plan, start, luck)
    if chosen is not None:
        return learning.on(chosen)
    return learning.run(plan.questions(rows))


@dataclass(frozen=True)
class _Fit:
    """``raw`` (n,) what the regression says of every row; ``own`` (m,) what it says of judged rows held out; ``chance``
    (n,) of being high; ``vector``, ``features`` and ``intercept`` are the regression's weights.
    """

    raw: Floats
    own: Floats
    chance: Floats
    vector: Floats
    features: Floats
    low: Floats
    high: Floats
    intercept: float


class _Learning:
    def __init__(
        self,
        vectors: npt.NDArray[np.floating[Any]],
        features: Floats,
        ask: Ask,
        plan: Plan,
        start: Floats | None,
        luck: Floats,
    ) -> None:
        self._ask, self._plan = ask, plan
        self._luck = luck
        self._low, self._high, clean, self._mean, self._scale = scaled(features)
        self._centre, self._directions, reduced = principal(vectors, plan.directions)
        # the regression's table: what the vectors say, then the features
        self._table = np.hstack([reduced, clean])
        self._dim = reduced.shape[1]
        self._length = features[:, _LENGTH]
        # what is known of a row before anybody is asked
        self._guess = self._length if start is None else standard(standard(self._length) + standard(start))
        self._started = start is not None
        self._even = 0
        self._rows: list[int] = []
        self._said: list[float] = []
        self._rounds: list[Round] = []

    def run(self, budget: int) -> Learned:
        if budget == len(self._table):
            return self.on(np.arange(budget))
        pilot = min(budget, max(MIN_ROWS, round(self._plan.pilot * budget)))
        self._put(self._pilot(pilot), "pilot", math.nan)
        for turn in range(self._plan.rounds):
            size = (budget - len(self._rows)) // (self._plan.rounds - turn)
            if size > 0:
                fit = self._nudged(self._fit())
                order = np.argsort(-fit.chance - 1e-9 * fit.raw + _NEVER * self._asked(), kind="stable")[:size]
                self._put(order, "likely high", float(fit.chance[order].sum()))
        return self._finish()

    def on(self, chosen: Ints) -> Learned:
        self._put(np.asarray(chosen, dtype=np.int64), "chosen", math.nan)
        return self._finish()

    def _asked(self) -> Floats:
        """(n,) 1 for rows that were asked about."""
        out = np.zeros(len(self._table))
        out[self._rows] = 1.0
        return out

    def _judged(self) -> tuple[Ints, Floats]:
        said = np.array(self._said)
        answered = np.isfinite(said)
        return np.array(self._rows, dtype=np.int64)[answered], said[answered]

    def _put(self, rows: Ints, why: str, expected: float) -> None:
        said = np.asarray(self._ask(rows), dtype=np.float64)
        if said.shape != rows.shape:
            raise ValueError(f"expected {len(rows)} ratings from the judge, got shape {said.shape}")
        answered = said[np.isfinite(said)]
        if len(answered) and not RATING_MIN <= answered.min() <= answered.max() <= RATING_MAX:
            raise RatingsError(f"cascade: expected ratings in 0–5, got {answered.min():g}–{answered.max():g}")
        self._rows += rows.tolist()
        self._said += said.tolist()
        high = int((answered >= self._line).sum())
        self._rounds.append(Round(why, len(rows), len(answered), high, expected))

    @property
    def _line(self) -> float:
        """The rating from which a row's class is high."""
        return self._plan.high - 0.5

    def _pilot(self, size: int) -> Ints:
        even = self._even = min(size, max(_LEAST_SPREAD, round(self._plan.spread * size)))
        place = np.argsort(np.argsort(self._guess, kind="stable"), kind="stable")
        tilted = ((place + 1) / len(place)) ** self._plan.tilt
        first = apart(self._table[:, : self._dim], np.ones(len(tilted)), even, self._luck[:, 0])
        tilted[first] = 0.0
        return np.concatenate([first, apart(self._table[:, : self._dim], tilted, size - even, self._luck[:, 0])])

    def _fit(self) -> _Fit:
        rows, said = self._judged()
        if len(rows) < MIN_ROWS // 2:
            raise RatingsError(
                f"cascade: the judge answered {len(rows)} of {len(self._rows)} questions; too few to learn from"
            )
        plan, high = self._plan, said >= self._line
        target = said + plan.lift * high
        part = self._table[rows]
        grid = [self._penalty(*pair) for pair in product(plan.vector_penalties, plan.feature_penalties)]
        unseen = held_out(part, target, grid, _folds(self._luck[rows, 1], plan.folds))
        shares, strength = self._worth(unseen, rows, high)
        fitted = [ridge(part, target, penalty) for penalty in grid]
        weights = np.einsum("g,gc->c", shares, np.stack([w for w, _ in fitted]))
        weights[self._dim + _LENGTH] += strength
        intercept = float(shares @ [b for _, b in fitted])
        raw = self._table @ weights + intercept
        own = shares @ unseen + strength * part[:, self._dim + _LENGTH]
        on_features = weights[self._dim :] / self._scale
        on_vector = self._directions @ weights[: self._dim]
        return _Fit(
            raw=raw,
            own=own,
            chance=chance_of(own, high, raw),
            vector=on_vector,
            features=on_features,
            low=self._low,
            high=self._high,
            intercept=float(intercept - self._mean @ on_features - self._centre @ on_vector),
        )

    def _nudged(self, fit: _Fit) -> _Fit:
        """The fit moved towards the guess, by as much as the guess tells high rows beside what was learned."""
        rows, said = self._judged()
        high = said >= self._line
        if not self._started or min(high.sum(), (~high).sum()) < self._plan.folds:
            return fit
        advantage, best = auc(self._guess[rows], high) - 0.5, auc(fit.own, high) - 0.5
        strength = min(1.0, max(0.0, advantage) / max(best, 1e-9)) * float(fit.own.std())
        own, raw = fit.own + strength * self._guess[rows], fit.raw + strength * self._guess
        return replace(fit, own=own, raw=raw, chance=chance_of(own, high, raw))

    def _worth(self, unseen: Floats, rows: Ints, high: npt.NDArray[np.bool_]) -> tuple[Floats, float]:
        """(len(grid),) shares of the regressions in their mean, and the weight of standardised length beside it."""
        if min(high.sum(), (~high).sum()) < self._plan.folds:
            return np.full(len(unseen), 1.0 / len(unseen)), 0.0
        worth = np.array([auc(raw, high) for raw in unseen])
        shares = np.exp((worth - worth.max()) / self._plan.blend)
        shares /= shares.sum()
        advantage = auc(self._length[rows], high) - 0.5
        part = min(1.0, max(0.0, advantage) / max(float(worth.max()) - 0.5, 1e-9))
        return shares, self._plan.length * part * float((shares @ unseen).std())

    def _penalty(self, on_vector: float, on_features: float) -> Floats:
        penalty = np.repeat([on_vector, on_features], [self._dim, self._table.shape[1] - self._dim])
        penalty[self._dim + _LENGTH] = 1.0
        return penalty

    def _finish(self) -> Learned:
        fit = self._fit()
        rows, said = self._judged()
        if len(rows) < MIN_ROWS:
            raise RatingsError(f"cascade: the judge answered {len(rows)} questions; at least {MIN_ROWS} are needed")
        rest = np.setdiff1d(np.arange(len(self._table)), rows)
        chance = np.zeros(len(self._table))
        chance[rows] = said >= self._line
        chance[rest] = self._corrected(fit.chance[rest])
        if said.min() == said.max():
            knots = _around(float(fit.raw.mean()), float(said[0]))
        elif len(rest):
            called = _worth_calling(chance[rest], float(chance[rows].sum()), self._plan.margin)
            knots = class_knots(fit.raw[rest], self._classes(fit, rest, said, called))
        else:
            knots = class_knots(fit.own, said)
        head = Head(fit.vector, fit.features, fit.low, fit.high, fit.intercept, knots)
        ratings = np.empty(len(self._table))
        ratings[rest] = [interpolate(raw, knots) for raw in fit.raw[rest].tolist()]
        ratings[rows] = said
        asked = np.array(self._rows, dtype=np.int64), np.array(self._said)
        return Learned(*asked, ratings, chance, head, tuple(self._rounds), self._unsure(fit, knots))

    def _unsure(self, fit: _Fit, knots: Floats) -> float:
        """The head's rating where the chance of being high reaches the plan's, and never above the line itself."""
        may_be = fit.raw[fit.chance >= self._plan.unsure]
        return min(self._line, interpolate(float(may_be.min()), knots)) if len(may_be) else self._line

    def _corrected(self, chance: Floats) -> Floats:
        """Chances of rows that were left over, brought down where they cannot all be right.

        The judged rows were picked for being likely high, and what is learned from them thinks too well of the rest. A
        row that was passed over in every round is no likelier high than the rows of the last round were; and the part
        of the pilot that was spread over the pool says how many high rows there can be in all.
        """
        later = [r for r in self._rounds if not math.isnan(r.expected_high)]
        if later:
            weights = 0.5 ** np.arange(len(later))[::-1]
            found = float(weights @ [r.high for r in later])
            expected = float(weights @ [r.expected_high for r in later])
            cap = later[-1].high / max(1, later[-1].answered)
            chance = np.minimum(chance * min(1.0, found / max(expected, 1e-9)), cap)
        if self._even:
            spread = np.array(self._said[: self._even])
            spread = spread[np.isfinite(spread)]
            share = ((spread >= self._line).sum() + 1) / (len(spread) + 2)  # the rule of succession
            left = max(0.0, share * len(self._table) - float((self._judged()[1] >= self._line).sum()))
            chance = chance * min(1.0, left / max(float(chance.sum()), 1e-9))
        return chance

    def _classes(self, fit: _Fit, rest: Ints, said: Floats, called: int) -> Floats:
        """(rest,) classes by rank of ``raw``: as many of each as expected of these rows, ``called`` of them high."""
        at_least = [float(chance_of(fit.own, said >= c - 0.5, fit.raw[rest]).sum()) for c in range(1, CLASSES)]
        counts = np.minimum.accumulate(np.round(at_least).astype(np.int64))
        counts[self._plan.high - 1 :] = np.minimum(counts[self._plan.high - 1 :], called)
        counts[self._plan.high - 1] = called
        counts[: self._plan.high - 1] = np.maximum(counts[: self._plan.high - 1], called)
        place = np.empty(len(rest), dtype=np.int64)
        place[np.argsort(-fit.raw[rest], kind="stable")] = np.arange(len(rest))
        return np.asarray((place[:, None] < counts[None, :]).sum(axis=1), dtype=np.float64)


def luck_of(digests: Sequence[str], seed: int) -> Floats:
    """(n, 2) each row's luck, uniform in (0, 1], from its content hash and ``seed``; equal content has equal luck."""
    hashed = [blake2b(f"{seed} {digest}".encode(), digest_size=8).digest() for digest in digests]
    numbers = np.frombuffer(b"".join(hashed), dtype="<u4").reshape(-1, 2)
    return (numbers.astype(np.float64) + 1.0) / 2.0**32


def _folds(luck: Floats, folds: int) -> Ints:
    """(m,) the fold of each row: of equal size, by luck."""
    place = np.empty(len(luck), dtype=np.int64)
    place[np.argsort(luck, kind="stable")] = np.arange(len(luck))
    return place * folds // len(luck)


def _around(raw: float, rating: float) -> Floats:
    """Knots of a judge that always says the same: its word, where nothing else is known."""
    within = min(RATING_MAX - 0.15, max(RATING_MIN + 0.15, rating))
    return np.array([[raw - 1.0, within - 0.1], [raw + 1.0, within + 0.1]])


def _worth_calling(chance: Floats, known: float, margin: float) -> int:
    """How many of the rows with these chances to call high, besides ``known`` judged ones.

    Calling a row with chance c raises the expected F1 where c exceeds half of it. Never more than are expected.
    """
    order = np.sort(chance)[::-1]
    total = known + order.sum()
    if total <= 0:
        return 0
    found = known + np.concatenate([[0.0], np.cumsum(order)])
    f1 = 2.0 * found / (known + np.arange(len(order) + 1) + total)
    return min(int((order >= margin * f1.max()).sum()), round(float(order.sum())))
