"""Training a learned rater: honest figures, class shares kept, the map monotone, bad input refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.errors import RatingsError
from lm_mixup.raters.damage import DROPS, damage
from lm_mixup.raters.features import FEATURES, matrix
from lm_mixup.raters.learned import Floats, interpolate
from lm_mixup.raters.training import (
    DEFAULTS,
    class_knots,
    cross_validate,
    fit_damage,
    fit_head,
    folds_of,
    ranks,
    spearman,
    train,
)
from lm_mixup.records import Message, Sample, rating_class

DIM = 16


def made(rows: int = 400, noise: float = 0.7, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Vectors, features and ratings that follow both, with noise."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    features = np.zeros((rows, len(FEATURES)))
    features[:, 0] = rng.normal(3.0, 1.0, rows)
    raw = 4 * vectors[:, 0] + 0.5 * features[:, 0] + noise * rng.normal(size=rows)
    return vectors, features, np.clip(np.round(raw), 0, 5)


def test_a_head_learns_from_vectors_and_features_beyond_length() -> None:
    report = cross_validate(*made(), draws=50)
    assert report.spearman.value > 0.75
    assert report.spearman.low < report.spearman.value < report.spearman.high
    assert report.length.value < report.spearman.value - 0.2
    assert report.beyond_length.value > 0.5


def test_ratings_of_chance_are_reported_as_chance() -> None:
    vectors, features, ratings = made()
    shuffled = np.random.default_rng(1).permutation(ratings)
    report = cross_validate(vectors, features, shuffled, draws=50)
    assert abs(report.spearman.value) < 0.15


def test_class_shares_on_unseen_rows_are_the_raters() -> None:
    report = cross_validate(*made(2000), draws=10)
    assert np.abs(report.shares[:, 0] - report.shares[:, 1]).max() < 0.03
    assert report.shares.sum(axis=0) == pytest.approx([1.0, 1.0])


def test_training_twice_gives_the_same_weights() -> None:
    vectors, features, ratings = made(120)
    once, _ = train(vectors, features, {"judge": ratings}, embedders=["e"])
    again, _ = train(vectors, features, {"judge": ratings}, embedders=["e"])
    assert once.digest() == again.digest()


def test_rows_that_a_rater_left_out_are_left_out() -> None:
    vectors, features, ratings = made(200)
    holes = ratings.copy()
    holes[150:] = np.nan
    weights, reports = train(vectors, features, {"judge": holes}, embedders=["e"])
    assert reports["judge"].rows == 150
    alone, _ = train(vectors[:150], features[:150], {"judge": ratings[:150]}, embedders=["e"])
    assert weights.digest() == alone.digest()


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        (np.full(60, 3.0), "all ratings are 3"),
        (np.linspace(0, 7, 60), "expected ratings in 0–5"),
        (np.where(np.arange(60) < 20, 2.0, np.nan), "at least 50 rated rows"),
    ],
)
def test_ratings_that_teach_nothing_are_refused(ratings: Floats, message: str) -> None:
    vectors, features, _ = made(60)
    with pytest.raises(RatingsError, match=message):
        train(vectors, features, {"judge": ratings}, embedders=["e"])


def test_a_feature_with_too_few_examples_gets_no_weight_and_an_outlier_no_more_than_the_range_seen() -> None:
    vectors, features, ratings = made()
    features[:5, 7] = 1.0
    head = fit_head(vectors, features, ratings, settings=replace(DEFAULTS, min_support=20))
    assert head.features[7] == 0
    row = features[0].copy()
    row[0] = 1e9
    far = head.merit(vectors[0], row)
    row[0] = head.high[0]
    assert far == head.merit(vectors[0], row)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 5)), min_size=2, max_size=60),
    st.lists(st.floats(-10, 10), min_size=2, max_size=20),
)
def test_the_map_is_increasing_and_within_range_for_any_ratings(rows: list[tuple[float, int]], at: list[float]) -> None:
    knots = class_knots(np.array([r for r, _ in rows]), np.array([float(c) for _, c in rows]))
    assert (np.diff(knots, axis=0) > 0).all()
    points = sorted(at)
    mapped = [interpolate(x, knots) for x in points]
    assert all(0 <= y <= 5 for y in mapped)
    assert all(a <= b for a, b in itertools.pairwise(mapped))


def test_the_map_gives_the_classes_their_shares_exactly_on_what_it_was_made_from() -> None:
    rng = np.random.default_rng(0)
    raw, ratings = rng.normal(size=500), rng.choice(6, 500, p=[0.1, 0.2, 0.3, 0.2, 0.15, 0.05]).astype(float)
    mapped = np.array([interpolate(x, class_knots(raw, ratings)) for x in raw])
    assert [sum(rating_class(m) == c for m in mapped) for c in range(6)] == [
        int((ratings == c).sum()) for c in range(6)
    ]


def test_beyond_the_outer_knots_the_map_bends_towards_the_ends() -> None:
    knots = np.array([[-1.0, 0.25], [0.0, 2.5], [1.0, 4.75]])
    assert interpolate(0.5, knots) == pytest.approx(3.625)
    assert 4.75 < interpolate(1.1, knots) < interpolate(1.2, knots) < 5
    assert 0 < interpolate(-1.2, knots) < interpolate(-1.1, knots) < 0.25
    # the slope does not jump at a knot
    step = 1e-6
    inner, outer = (
        (interpolate(1.0, knots) - interpolate(1.0 - step, knots)) / step,
        (interpolate(1.0 + step, knots) - interpolate(1.0, knots)) / step,
    )
    assert inner == pytest.approx(outer, rel=1e-3)


def test_folds_are_even_and_drawn_by_the_seed() -> None:
    fold = folds_of(103, 5, seed=1)
    assert sorted(np.bincount(fold).tolist()) == [20, 20, 21, 21, 21]
    assert (fold == folds_of(103, 5, seed=1)).all()
    assert (fold != folds_of(103, 5, seed=2)).any()


def test_spearman_is_that_of_ranks_with_ties_shared() -> None:
    assert ranks(np.array([10.0, 30.0, 10.0, 20.0])).tolist() == [1.5, 4.0, 1.5, 3.0]
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 8.0, 27.0])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) == 0.0


def test_the_damage_model_tells_damaged_from_sound() -> None:
    sound = [
        Sample(str(i), (Message("user", f"What is thing {i}?"), Message("assistant", text)))
        for i, text in enumerate(
            f"The {a} lies in the {b} of {c}. It was built in {1700 + k} and is known for its {d}."
            for k, (a, b, c, d) in enumerate(
                (a, b, c, d)
                for a in ("castle", "garden", "bridge")
                for b in ("north", "south")
                for c in ("France", "Japan", "Peru")
                for d in ("towers", "roses", "arches")
            )
        )
    ]
    kinds = ["loop", "markup", "garble", "refusal", "stutter"]
    bad = [(k, damage(s, k, seed=0, other=sound[0])) for s in sound for k in kinds]
    copies = [(k, c) for k, c in bad if c is not None]
    table = matrix([*sound, *(c for _, c in copies)])
    model = fit_damage(table, np.array([0.0] * len(sound) + [DROPS[k] for k, _ in copies]))
    losses = np.array([model.loss(row) for row in table])
    assert losses[: len(sound)].max() == 0
    assert (losses[len(sound) :] > 0).mean() > 0.9
    assert losses.max() <= model.points
    assert (model.features >= 0).all()
