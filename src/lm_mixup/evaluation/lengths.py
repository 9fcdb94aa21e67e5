"""Ratings at equal length: judges like long answers, so a distiller must not win by being long.

A judge's rating is taken to rise by a fixed amount for each factor of length, ``slope`` · log(words), with a slope for
each task type. The slope is fitted within the answers of one entrant to one type, over all entrants together (ordinary
least squares with an intercept for each entrant and type): so it is told by how the judge rates an entrant's long
answers against the same entrant's short ones, and an entrant that is both longer and better does not bend it. An
answer's rating *at the reference's length* is its rating − slope · log(its words / the reference's words).

What this is not: part of what length earns is earned (a longer target says more), and the correction takes that away,
too. The plain rating and this one are two bounds of the truth rather than a wrong and a right figure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_ANSWERS = 20
"""A type with fewer rated answers gets the slope of all types together."""
MIN_SPREAD = 0.01
"""… and so does one whose answers are all of one length: standard deviation of log(words) within an entrant."""


def slopes(ratings: Floats, words: Floats, types: Sequence[str]) -> dict[str, float]:
    """Points of rating for each e-fold of length, by type.

    ``ratings`` and ``words`` are (entrants, rows), NaN where there is none; ``types`` (rows,).
    """
    kinds = np.array(types, dtype=object)
    both = np.isfinite(ratings) & np.isfinite(words) & (words > 0)
    logs = np.log(words, out=np.zeros_like(words), where=both)
    products: dict[str, float] = {}
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    for kind in dict.fromkeys(types):
        product = square = 0.0
        for entrant in range(len(ratings)):
            mine = both[entrant] & (kinds == kind)
            if not mine.any():
                continue
            x = logs[entrant, mine] - logs[entrant, mine].mean()
            product += float(x @ (ratings[entrant, mine] - ratings[entrant, mine].mean()))
            square += float(x @ x)
        products[kind], squares[kind] = product, square
        counts[kind] = int((both & (kinds == kind)).sum())
    whole, count = sum(squares.values()), sum(counts.values())
    common = sum(products.values()) / whole if whole > count * MIN_SPREAD**2 else 0.0
    return {
        kind: products[kind] / squares[kind]
        if counts[kind] >= MIN_ANSWERS and squares[kind] > counts[kind] * MIN_SPREAD**2
        else common
        for kind in counts
    }


def at_reference_length(
    ratings: Floats, words: Floats, reference_words: Floats, types: Sequence[str], slope: dict[str, float]
) -> Floats:
    """The ratings (entrants, rows) as they would be at the length of the reference of each row (rows,).

    Not held within 0–5: only means and differences of these figures mean something.
    """
    per_row = np.array([slope[kind] for kind in types])
    safe = np.where(np.isfinite(words) & (words > 0), words, np.nan)
    level: Floats = ratings - per_row * (np.log(safe) - np.log(np.maximum(reference_words, 1.0)))
    return level


def alike(first: Floats, second: Floats, tolerance: float) -> npt.NDArray[np.bool_]:
    """(rows,) whether two lengths differ by at most ``tolerance`` of the longer one."""
    with np.errstate(invalid="ignore"):
        near: npt.NDArray[np.bool_] = np.abs(first - second) <= tolerance * np.maximum(first, second)
    return near
