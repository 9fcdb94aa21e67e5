"""Ratings at equal length: a judge that counts words is seen through, a judge of merit is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from lm_mixup.evaluation.lengths import alike, at_reference_length, slopes

TYPES = ["qa"] * 200 + ["para"] * 200


@pytest.fixture
def words() -> np.ndarray:
    """Three entrants: one writes like the reference, one twice as much, one half."""
    reference = np.random.default_rng(0).integers(20, 200, 400).astype(float)
    return np.stack([reference, 2 * reference, reference / 2])


def test_who_wins_by_length_alone_wins_no_more(words: np.ndarray) -> None:
    ratings = 0.5 * np.log(words)
    found = slopes(ratings, words, TYPES)
    assert found == pytest.approx({"qa": 0.5, "para": 0.5})
    level = at_reference_length(ratings, words, words[0], TYPES, found)
    assert np.allclose(level[1], level[0])
    assert np.allclose(level[2], level[0])
    assert np.allclose(level[0], ratings[0])


def test_who_is_better_and_longer_stays_better(words: np.ndarray) -> None:
    """The slope is told within an entrant: that the longer one is better by a point does not bend it."""
    ratings = 0.3 * np.log(words) + np.array([[0.0], [1.0], [0.0]])
    found = slopes(ratings, words, TYPES)
    level = at_reference_length(ratings, words, words[0], TYPES, found)
    assert (level[1] - level[0]).mean() == pytest.approx(1.0)
    assert (level[2] - level[0]).mean() == pytest.approx(0.0)


def test_each_type_has_its_slope_and_a_small_one_that_of_all(words: np.ndarray) -> None:
    types = ["qa"] * 200 + ["para"] * 197 + ["cs"] * 3
    steep = np.array([1.0 if kind == "qa" else 0.2 for kind in types])
    found = slopes(steep * np.log(words), words, types)
    assert found["qa"] == pytest.approx(1.0)
    assert found["para"] == pytest.approx(0.2)
    assert 0.2 < found["cs"] < 1.0


def test_failures_and_texts_of_one_length_break_nothing() -> None:
    ratings = np.array([[1.0, np.nan, 3.0], [2.0, 2.0, np.nan]])
    words = np.array([[10.0, np.nan, 10.0], [10.0, 0.0, np.nan]])
    found = slopes(ratings, words, ["qa", "qa", "para"])
    assert found == {"qa": 0.0, "para": 0.0}
    level = at_reference_length(ratings, words, np.array([10.0, 10.0, 0.0]), ["qa", "qa", "para"], found)
    assert np.isnan(level).tolist() == [[False, True, False], [False, True, True]]


def test_alike_within_a_share_of_the_longer() -> None:
    first, second = np.array([100.0, 100.0, 89.0, np.nan]), np.array([90.0, 111.0, 100.0, 1.0])
    assert alike(first, second, 0.1).tolist() == [True, True, False, False]
