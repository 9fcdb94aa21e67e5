"""Intervals over groups: what they must hold, whatever the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import InputError
from lm_mixup.evaluation.bootstrap import MACRO, ROWS, Bootstrap, Figure, as_json

VALUES = st.lists(
    st.tuples(
        st.sampled_from("abcde"), st.sampled_from(["qa", "para"]), st.floats(0, 5) | st.just(math.nan), st.floats(0, 5)
    ),
    min_size=1,
    max_size=25,
)


def same(first: Figure, second: Figure) -> bool:
    return first.rows == second.rows and np.allclose(
        [first.value, first.low, first.high], [second.value, second.low, second.high], equal_nan=True
    )


@given(VALUES, st.integers(0, 3))
def test_the_same_seed_gives_the_same_figures(rows: list[tuple[str, str, float, float]], seed: int) -> None:
    groups, types, values, _ = zip(*rows, strict=True)
    first, again = (Bootstrap(groups, types, resamples=50, seed=seed).figures(np.array(values)) for _ in range(2))
    assert all(same(first[scope], again[scope]) for scope in first)


@given(VALUES)
def test_differences_are_antisymmetric(rows: list[tuple[str, str, float, float]]) -> None:
    groups, types, one, other = zip(*rows, strict=True)
    draws = Bootstrap(groups, types, resamples=50)
    there = draws.differences(np.array(one), np.array(other))
    back = draws.differences(np.array(other), np.array(one))
    for scope, figure in there.items():
        turned = Figure(figure.rows, -figure.value, -figure.high, -figure.low)
        assert same(turned, back[scope])


@given(VALUES)
def test_figures_are_means_of_what_is_there(rows: list[tuple[str, str, float, float]]) -> None:
    groups, types, values, _ = zip(*rows, strict=True)
    table = np.array(values)
    known = np.isfinite(table)
    figures = Bootstrap(groups, types, resamples=50).figures(table)
    assert figures[ROWS].rows == known.sum()
    assert figures[ROWS].value == pytest.approx(table[known].mean(), nan_ok=True) if known.any() else True
    of_types = [figures[kind].value for kind in set(types) if not math.isnan(figures[kind].value)]
    assert figures[MACRO].value == pytest.approx(np.mean(of_types) if of_types else math.nan, nan_ok=True)
    for figure in figures.values():
        if not math.isnan(figure.low):
            assert table[known].min() - 1e-9 <= figure.low <= figure.high <= table[known].max() + 1e-9


def test_rows_of_one_group_are_drawn_together() -> None:
    """Ten copies of each row in its group are worth no more than one."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=60)
    single = Bootstrap([f"g{i}" for i in range(60)], ["qa"] * 60, seed=3).figures(values)[ROWS]
    copied = Bootstrap([f"g{i}" for i in range(60) for _ in range(10)], ["qa"] * 600, seed=3)
    assert same(single, Figure(60, *_rest(copied.figures(np.repeat(values, 10))[ROWS])))
    apart = Bootstrap([f"r{i}" for i in range(600)], ["qa"] * 600, seed=3).figures(np.repeat(values, 10))[ROWS]
    assert apart.high - apart.low < 0.5 * (single.high - single.low)


def _rest(figure: Figure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def test_the_interval_is_about_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    figure = Bootstrap([str(i) for i in range(400)], ["qa"] * 400, resamples=4000).figures(values)[ROWS]
    assert figure.high - figure.low == pytest.approx(2 * 1.96 / math.sqrt(400), rel=0.1)


def test_one_group_has_no_interval() -> None:
    figures = Bootstrap(["g", "g"], ["qa", "para"]).figures(np.array([1.0, 3.0]))
    assert figures[ROWS].value == 2.0
    assert math.isnan(figures[ROWS].low)
    assert as_json(figures)["rows"] == {"rows": 2, "value": 2.0, "low": None, "high": None}


def test_groups_and_types_go_together() -> None:
    with pytest.raises(InputError, match="got 1 and 2"):
        Bootstrap(["g"], ["qa", "qa"])
