"""The numeric parts of the cascade: directions, spread-out draws, ridge regressions, chances. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.raters.training import ranks

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def standard(values: Floats) -> Floats:
    """The values less their mean, over their standard deviation."""
    spread = float(values.std())
    return np.asarray((values - values.mean()) / spread if spread > 0 else np.zeros(len(values)))


def scaled(features: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Clipping range, the clipped and standardised features (n, n_features), their mean and scale."""
    low, high = np.quantile(features, [0.01, 0.99], axis=0)
    clipped = np.clip(features, low, high)
    spread = clipped.std(axis=0)
    mean, scale = clipped.mean(axis=0), np.where(spread > 1e-9, spread, np.inf)
    return low, high, (clipped - mean) / scale, mean, scale


def principal(vectors: npt.NDArray[np.floating[Any]], wanted: int) -> tuple[Floats, Floats, Floats]:
    """Centre (dim,), the ``wanted`` directions of largest spread (dim, d), and the vectors along them (n, d)."""
    n, dim = vectors.shape
    centre, gram = np.zeros(dim), np.zeros((dim, dim))
    blocks = [slice(start, start + 8192) for start in range(0, n, 8192)]
    for block in blocks:
        part = vectors[block].astype(np.float64)
        centre += part.sum(axis=0) / n
        gram += part.T @ part / n
    _, basis = np.linalg.eigh(gram - np.outer(centre, centre))
    directions = basis[:, ::-1][:, :wanted]
    # the sign of an eigenvector is anybody's: its largest entry is made positive
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    reduced = np.concatenate([(vectors[block].astype(np.float64) - centre) @ directions for block in blocks])
    return centre, directions, reduced


def apart(points: Floats, weights: Floats, size: int, luck: Floats) -> Ints:
    """``size`` rows drawn one after the other by weight × squared distance to the nearest row drawn (k-means++).

    ``luck`` (n,) in (0, 1] decides, a row's the same in each draw: of exponential clocks that run at a row's odds, the
    first to ring wins. From 1,024 rows on they are drawn a few at a time.
    """
    weights, chosen = weights.copy(), np.empty(0, dtype=np.int64)
    if size <= 0:
        return chosen
    clock = -np.log(luck) + 1e-12
    squared, far = (points**2).sum(axis=1), np.ones(len(points))
    while len(chosen) < size:
        odds = weights * far
        left = int((odds > 0).sum())
        if not left:  # only copies of drawn rows are left
            odds = np.where(np.isin(np.arange(len(points)), chosen), 0.0, weights + 1e-12)
            left = len(points) - len(chosen)
        step = 1 if not len(chosen) else min(left, size - len(chosen), max(1, size // 1024))
        rings = np.full(len(points), np.inf)
        np.divide(clock, odds, out=rings, where=odds > 0)
        new = np.argsort(rings, kind="stable")[:step] if step > 1 else np.array([int(rings.argmin())])
        nearest = (squared[:, None] + squared[new][None, :] - 2.0 * points @ points[new].T).min(axis=1)
        far = np.maximum(nearest, 0.0) if not len(chosen) else np.minimum(far, np.maximum(nearest, 0.0))
        weights[new] = 0.0
        chosen = np.concatenate([chosen, new])
    return chosen


def ridge(table: Floats, target: Floats, penalty: Floats) -> tuple[Floats, float]:
    """Weights (columns,) and intercept; ``penalty`` (columns,) holds each column's."""
    centre, offset = table.mean(axis=0), target.mean()
    part = table - centre
    weights: Floats = np.linalg.solve(part.T @ part + np.diag(penalty), part.T @ (target - offset))
    return weights, float(offset - centre @ weights)


def held_out(table: Floats, target: Floats, grid: Sequence[Floats], fold: Ints) -> Floats:
    """(len(grid), m) what a regression on the other folds says of each row, under each penalty."""
    out = np.empty((len(grid), len(target)))
    for this in np.unique(fold):
        inside, outside = fold != this, fold == this
        centre, offset = table[inside].mean(axis=0), target[inside].mean()
        part = table[inside] - centre
        gram, moment = part.T @ part, part.T @ (target[inside] - offset)
        for row, penalty in zip(out, grid, strict=True):
            row[outside] = (table[outside] - centre) @ np.linalg.solve(gram + np.diag(penalty), moment) + offset
    return out


def auc(raw: Floats, high: npt.NDArray[np.bool_]) -> float:
    """The chance that a high row stands above another one in ``raw`` (m,); there must be some of both."""
    many, few = int(high.sum()), int((~high).sum())
    return float((ranks(raw)[high].sum() - many * (many + 1) / 2) / (many * few))


def chance_of(own: Floats, high: npt.NDArray[np.bool_], raw: Floats, *, steps: int = 50) -> Floats:
    """The chance of being high at ``raw`` (n,), by a logistic curve through ``own`` (m,), which never falls."""
    middle, spread = own.mean(), max(float(own.std()), 1e-9)
    z, label = (own - middle) / spread, high.astype(np.float64)
    share = (label.sum() + 0.1) / (len(label) + 0.2)
    slope, offset = 0.0, math.log(share / (1 - share))
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-np.clip(slope * z + offset, -30, 30)))
        gradient = np.array([z @ (p - label) + 0.1 * slope, (p - label).sum()])
        curve = p * (1 - p) + 1e-6
        hessian = np.array([[(curve * z * z).sum() + 0.1, (curve * z).sum()], [(curve * z).sum(), curve.sum()]])
        step = np.linalg.solve(hessian, gradient)
        slope, offset = slope - step[0], offset - np.clip(step[1], -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    at = np.clip(max(0.0, slope) * (raw - middle) / spread + offset, -30, 30)
    return np.asarray(1.0 / (1.0 + np.exp(-at)))
