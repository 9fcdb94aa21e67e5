"""Judging the judges: figures that are known by hand, raters of length named, missing ratings left out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import MissingExtraError, RatingsError
from lm_mixup.raters import compare_figure
from lm_mixup.raters.compare import Rule, as_json, by_class, compare, confusion, kappa, partial, self_consistency


def noisy(base: np.ndarray, noise: float, seed: int) -> np.ndarray:
    made = base + noise * np.random.default_rng(seed).normal(size=len(base))
    return np.clip(np.round(2.5 + 1.2 * (made - made.mean()) / made.std()), 0, 5)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Length and, apart from it, merit."""
    rng = np.random.default_rng(0)
    return rng.normal(size=800), rng.normal(size=800)


def test_kappa_by_hand() -> None:
    a = np.repeat([0.0, 0.0, 1.0, 1.0], [45, 15, 25, 15])
    b = np.repeat([0.0, 1.0, 0.0, 1.0], [45, 15, 25, 15])
    assert kappa(confusion(a, b)) == pytest.approx(0.1304, abs=1e-4)
    far, near = np.array([0.0, 5.0] * 20), np.array([0.0, 4.0] * 20)
    assert kappa(confusion(far, near)) < kappa(confusion(far, near), quadratic=True)


@given(st.lists(st.integers(0, 5), min_size=20, max_size=60), st.randoms(use_true_random=False))
def test_kappa_is_one_for_twins_and_symmetric(values: list[int], shuffler) -> None:
    a = np.array(values, dtype=float)
    other = list(values)
    shuffler.shuffle(other)
    b = np.array(other, dtype=float)
    for quadratic in (False, True):
        own = kappa(confusion(a, a), quadratic=quadratic)
        assert own == pytest.approx(1.0) or (len(set(values)) == 1 and own == 0.0)
        one, two = kappa(confusion(a, b), quadratic=quadratic), kappa(confusion(b, a), quadratic=quadratic)
        assert one == pytest.approx(two)
        assert -1 - 1e-9 <= one <= 1


def test_calibration_is_the_others_mean_by_class() -> None:
    means, error = by_class(np.array([1, 1, 4.0]), np.array([2, 4, 4.0]))
    assert means[1] == 3
    assert means[4] == 4
    assert np.isnan(means[0])
    assert error == pytest.approx(4 / 3)


def test_partial_takes_out_what_both_owe_to_length(rows) -> None:
    length, merit = rows
    a, b = length + 0.3 * merit, length - 0.3 * merit
    assert partial(a, b, length) < -0.8
    assert partial(length, b, length) == 0.0


def test_a_rater_that_measures_length_is_named_and_the_others_are_not(rows) -> None:
    length, merit = rows
    ratings = {
        "length": noisy(length, 0.0, 1),
        "length and noise": noisy(length, 1.0, 2),
        "merit": noisy(merit, 0.5, 3),
        "merit and length": noisy(merit + length, 0.5, 4),
        "merit again": noisy(merit, 0.8, 5),
    }
    found = compare(ratings, length, resamples=200)
    named = {name for name, told in found.lengths.items() if told.verdict}
    assert named == {"length", "length and noise"}
    assert found.lengths["merit and length"].beyond.low > 0.3


def test_a_rater_alone_is_named_by_its_correlation_with_length(rows) -> None:
    length, merit = rows
    assert compare({"a": noisy(length, 0.3, 1)}, length, resamples=50).lengths["a"].verdict
    assert not compare({"a": noisy(length + merit, 0.5, 1)}, length, resamples=50).lengths["a"].verdict
    strict = Rule(alone=0.5)
    assert compare({"a": noisy(length + merit, 0.2, 1)}, length, rule=strict, resamples=50).lengths["a"].verdict


def test_intervals_hold_the_figure_and_narrow_with_rows(rows) -> None:
    _, merit = rows
    a, b = noisy(merit, 1.0, 1), noisy(merit, 1.0, 2)
    (many,) = compare({"a": a, "b": b}, resamples=300).pairs
    (few,) = compare({"a": a[:80], "b": b[:80]}, resamples=300).pairs
    for pair in (many, few):
        assert pair.correlation.low < pair.correlation.value < pair.correlation.high
    assert many.correlation.high - many.correlation.low < few.correlation.high - few.correlation.low


def test_only_rows_that_both_rated_count(rows) -> None:
    _, merit = rows
    a, b = noisy(merit, 0.5, 1), noisy(merit, 0.5, 2)
    holes_a, holes_b = a.copy(), b.copy()
    holes_a[:300], holes_b[600:] = np.nan, np.nan
    (pair,) = compare({"a": holes_a, "b": holes_b}, resamples=20).pairs
    (alone,) = compare({"a": a[300:600], "b": b[300:600]}, resamples=20).pairs
    assert pair.rows == 300
    assert pair.confusion.sum() == 300
    assert as_json_pair(pair) == as_json_pair(alone)


def as_json_pair(pair) -> tuple:
    return (pair.correlation.value, pair.exact, pair.kappa, pair.weighted_kappa, pair.bias)


def test_raters_that_share_too_few_rows_are_said_not_compared(rows) -> None:
    _, merit = rows
    a, b = noisy(merit, 0.5, 1), noisy(merit, 0.5, 2)
    a[400:], b[:390] = np.nan, np.nan
    found = compare({"a": a, "b": b}, resamples=20)
    assert found.pairs == ()
    assert "share 10 rows" in found.notes[0]
    assert np.isnan(found.agreement[0, 1])


def test_self_consistency_of_known_noise() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(2.5, 1.0, size=5000)
    draws = np.clip(true[:, None] + rng.normal(0, 0.5, size=(5000, 3)), 0, 5)
    told = self_consistency(draws)
    assert (told.rows, told.draws) == (5000, 3)
    assert told.reliability == pytest.approx(0.8, abs=0.03)
    same = self_consistency(np.repeat(np.round(np.clip(true, 0, 5))[:, None], 2, axis=1))
    assert (same.correlation, same.exact, same.spread, same.reliability) == pytest.approx((1, 1, 0, 1))
    with pytest.raises(RatingsError, match="two draws"):
        self_consistency(draws[:, :1])


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.full(30, 6.0), "0–5"), (np.full(30, np.nan), "at least 20"), (np.full(29, 1.0), "as many as there are rows")],
)
def test_bad_ratings_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(RatingsError, match=message):
        compare({"good": np.arange(30) % 6.0, "bad": values})


def test_json_holds_everything_and_no_nan(rows) -> None:
    length, merit = rows
    ratings = {"a": noisy(merit, 0.5, 1), "b": noisy(length, 0.5, 2)}
    text = json.dumps(as_json(compare(ratings, length, draws={"a": np.stack([ratings["a"]] * 2, 1)}, resamples=20)))
    assert "NaN" not in text
    told = json.loads(text)
    assert set(told) >= {"raters", "rows", "shares", "lengths", "draws", "pairs", "agreement", "weighted_kappa"}
    assert len(told["pairs"][0]["confusion"]) == 6


def test_the_figure_is_an_svg_and_the_same_each_time(rows, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    length, merit = rows
    found = compare({"a $x$": noisy(merit, 0.5, 1), "b": noisy(length, 0.1, 2)}, length, resamples=20)
    for name in ("one.svg", "two.svg"):
        compare_figure.draw(found, tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert "measures length alone" in text


def test_without_matplotlib_the_figure_names_its_extra(rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = compare({"a": noisy(rows[1], 0.5, 1)}, resamples=10)
    with pytest.raises(MissingExtraError, match=r"lm-mixup\[report\]"):
        compare_figure.draw(found, tmp_path / "x.svg")
    assert list(tmp_path.iterdir()) == []
