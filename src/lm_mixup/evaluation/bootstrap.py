"""Intervals by bootstrap over groups: articles are drawn with replacement, and all their rows with them.

Rows of one article share names, style and difficulty; drawn one by one they would pass for more evidence than they
are. Every figure of an evaluation is computed on the same draws, so that differences of figures are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import InputError

Floats = npt.NDArray[np.float64]

ROWS, MACRO = "rows", "types"
"""Scopes of a figure beside the task types: the mean over all rows, and the plain mean of the types' means."""

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over ``rows`` rows and its 95 % interval; NaN where there are no rows, or too few groups to draw from."""

    rows: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Bootstrap:
    """Draws of groups. ``groups`` (n,) and ``types`` (n,) name the group and the task type of each row.

    The same groups, number of resamples and seed give the same draws.
    """

    def __init__(self, groups: Sequence[str], types: Sequence[str], *, resamples: int = 2000, seed: int = 0) -> None:
        if len(groups) != len(types):
            raise InputError(f"expected a group and a type for each row, got {len(groups)} and {len(types)}")
        names = {name: code for code, name in enumerate(dict.fromkeys(groups))}
        self.groups = len(names)
        self.resamples = resamples
        self.seed = seed
        self._group = np.array([names[name] for name in groups], dtype=np.int64)
        self._types = np.array(types, dtype=object)
        self.types = tuple(dict.fromkeys(types))

    @cached_property
    def _drawn(self) -> npt.NDArray[np.int32]:
        """(resamples, groups): how often each group is drawn."""
        rng = np.random.default_rng(self.seed)
        even = np.full(self.groups, 1.0 / self.groups)
        return rng.multinomial(self.groups, even, size=self.resamples).astype(np.int32)

    def figures(self, values: Floats) -> dict[str, Figure]:
        """The mean of ``values`` (n,), NaN where a row has none, by scope: each type, :data:`ROWS`, :data:`MACRO`."""
        known = np.isfinite(values)
        out: dict[str, Figure] = {}
        means, draws = [], []
        for kind in self.types:
            mine = known & (self._types == kind)
            value, resampled = self._mean(values, mine)
            out[kind] = self._figure(int(mine.sum()), value, resampled, mine)
            if mine.any():
                means.append(value)
                draws.append(resampled)
        value, resampled = self._mean(values, known)
        out[ROWS] = self._figure(int(known.sum()), value, resampled, known)
        if means:
            # a draw in which a type has no row says nothing about the mean over types
            out[MACRO] = self._figure(int(known.sum()), float(np.mean(means)), np.mean(draws, axis=0), known)
        else:
            out[MACRO] = out[ROWS]
        return out

    def differences(self, first: Floats, second: Floats) -> dict[str, Figure]:
        """The mean of ``first`` − ``second`` (n,) over the rows that have both, by scope. Antisymmetric."""
        return self.figures(first - second)

    def _mean(self, values: Floats, where: npt.NDArray[np.bool_]) -> tuple[float, Floats]:
        """The mean over the rows of ``where``, and (resamples,) that of each draw, NaN where none of them is drawn."""
        if not where.any():
            return float("nan"), np.full(self.resamples, np.nan)
        group, chosen = self._group[where], values[where]
        sums = np.bincount(group, chosen, minlength=self.groups)
        counts = np.bincount(group, minlength=self.groups).astype(np.float64)
        there = np.flatnonzero(counts)
        drawn = self._drawn[:, there].astype(np.float64)
        rows = drawn @ counts[there]
        resampled = np.divide(drawn @ sums[there], rows, out=np.full(self.resamples, np.nan), where=rows > 0)
        return float(chosen.mean()), resampled

    def _figure(self, rows: int, value: float, resampled: Floats, where: npt.NDArray[np.bool_]) -> Figure:
        usable = resampled[np.isfinite(resampled)]
        if len(usable) == 0 or len(np.unique(self._group[where])) < 2:
            return Figure(rows, value, float("nan"), float("nan"))
        edge = (1.0 - LEVEL) / 2.0
        low, high = np.quantile(usable, [edge, 1.0 - edge]).tolist()
        return Figure(rows, value, low, high)


def as_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Figures as JSON-able values, four places, null for NaN."""

    def plain(value: float) -> float | None:
        return round(value, 4) if np.isfinite(value) else None

    return {
        scope: {"rows": f.rows, "value": plain(f.value), "low": plain(f.low), "high": plain(f.high)}
        for scope, f in figures.items()
    }
