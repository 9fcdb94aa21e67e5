"""The arithmetic of KNN-Bayes (METHOD § 3): a class from the ratings of neighbours, with honest confidence.

    h[j]        how many of the k nearest library rows have class j
    T[i, j]     the chance that a neighbour of a row of class i has class j
    p[i]        the share of class i
    posterior   ∝ p_i · ( Π_j T[i, j]^h_j ) ^ (1 / temperature)

A temperature of 1 is the paper's, and takes the k neighbours for independent witnesses. They are near each other, so
they repeat one another; the temperature is how many of them make one witness. It is found by the likelihood of ratings
that were held out (:func:`fit_temperature`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.records import RATING_MAX

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES = int(RATING_MAX) + 1

COLDEST, HOTTEST = 0.25, 1e4
"""Range of the temperature. The upper end is where the neighbours tell nothing and the prior alone speaks."""


def histograms(neighbor_classes: npt.NDArray[np.integer[Any]]) -> Floats:
    """(n, 6) how many of each row's neighbours (n, k) have each class; rows sum to k."""
    n = len(neighbor_classes)
    flat = (np.arange(n)[:, None] * CLASSES + neighbor_classes).ravel()
    return np.bincount(flat, minlength=n * CLASSES).reshape(n, CLASSES).astype(np.float64)


def transition_matrix(classes: Ints, near: Floats, smoothing: float) -> Floats:
    """(6, 6) T: row true class, column neighbour's class, rows sum to 1.

    ``near`` (n, 6) are the histograms of the few nearest rows; ``smoothing`` is added to every count.
    """
    counts = np.full((CLASSES, CLASSES), smoothing)
    np.add.at(counts, classes, near)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def class_shares(classes: Ints, smoothing: float) -> Floats:
    """(6,) the prior p, with ``smoothing`` added to every count."""
    counts = np.bincount(classes, minlength=CLASSES) + smoothing
    return np.asarray(counts / counts.sum())


def evidence(near: Floats, transition: Floats) -> Floats:
    """(n, 6) Σ_j h_j · log T[i, j] for each class i: what the neighbours say, at temperature 1."""
    # a sum of products, not a matrix product: BLAS may add in another order for another batch
    return np.asarray(np.einsum("nj,ij->ni", near, np.log(transition)))


def posterior(said: Floats, prior: Floats, temperature: float) -> Floats:
    """(n, 6) rows sum to 1; ``said`` (n, 6) is the :func:`evidence`. LM-Mixup § 3, tempered."""
    table = np.log(prior) + said / temperature
    table = np.exp(table - table.max(axis=1, keepdims=True))
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def log_likelihood(said: Floats, prior: Floats, classes: Ints, temperature: float) -> float:
    """Mean log posterior of the true ``classes`` (n,). ``prior`` is (6,), or (n, 6) where it differs by row."""
    shares = posterior(said, prior, temperature)
    return float(np.log(np.maximum(shares[np.arange(len(classes)), classes], 1e-300)).mean())


def fit_temperature(said: Floats, prior: Floats, classes: Ints, *, steps: int = 32) -> float:
    """The temperature under which held-out ``classes`` (n,) are likeliest, within [0.25, 10 000].

    ``said`` (n, 6) and ``prior`` ((6,) or (n, 6)) must not have seen the rows' own classes. The mean log-likelihood is
    concave in 1 / temperature, so its slope is bisected.
    """
    # class by class, so that numpy adds up long rows instead of many short ones
    by_class, log_prior = np.ascontiguousarray(said.T), np.log(np.ascontiguousarray(np.atleast_2d(prior).T))
    of_truth = by_class[classes, np.arange(len(classes))]

    def slope(power: float) -> float:
        shares = by_class / (1.0 / power)
        shares += log_prior
        shares -= shares.max(axis=0)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=0)
        shares *= by_class
        return float((of_truth - shares.sum(axis=0)).mean())

    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    if slope(low) <= 0:
        return HOTTEST
    if slope(high) >= 0:
        return COLDEST
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 2.0 / (low + high)


@dataclass(frozen=True)
class Reliability:
    """Confidence against truth, over bins of equally many rows: (bins,) mean confidence, share right, rows."""

    confidence: Floats
    right: Floats
    rows: Ints

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over rows of |confidence − share right| of the row's bin."""
        return float((np.abs(self.confidence - self.right) * self.rows).sum() / max(1, self.rows.sum()))


def reliability(shares: Floats, classes: Ints, *, bins: int = 15) -> Reliability:
    """How often the likeliest class of ``shares`` (n, 6) is the true one (n,), by how sure the posterior was of it."""
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == classes
    parts = [part for part in np.array_split(np.argsort(confidence, kind="stable"), bins) if len(part)]
    return Reliability(
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([len(part) for part in parts], dtype=np.int64),
    )
