"""The intervals of a plan: as wide as they must be, for costs of the shapes that real ones have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lm_mixup import plan as planning

SHAPES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "long tail": lambda rng: rng.lognormal(5.0, 0.7, 5000),
    "longer tail": lambda rng: rng.lognormal(5.0, 1.0, 5000),
    "a rubric and a long tail": lambda rng: 600 + rng.lognormal(5.0, 1.0, 5000),
    "one in twenty is asked twice": lambda rng: 100.0 * (1 + (rng.random(5000) < 0.05)),
    "one in three is asked twice": lambda rng: 100.0 * (1 + (rng.random(5000) < 0.3)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_twenty_records_tell_the_mean_nine_times_in_ten(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_ROUNDS", 300)
    rng = np.random.default_rng(3)
    costs = SHAPES[shape](rng)
    held, widths = 0, []
    for _ in range(400):
        low, high = planning._mean(rng.choice(costs, 20, replace=False), rng)
        held += low <= costs.mean() <= high
        widths.append((high - low) / costs.mean())
    assert held / 400 >= 0.87
    # no wider than it must be: of costs that differ little, a third of the mean
    assert np.mean(widths) < (1.0 if "tail" in shape else 0.4)


def test_what_is_the_same_for_all_has_room_above_and_none_below() -> None:
    low, high = planning._mean(np.full(20, 7.0), np.random.default_rng(0))
    assert low == 7.0
    assert 7.0 < high < 8.1
