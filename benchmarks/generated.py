"""Generated rows for benchmarks: unit vectors around N / 15 centres on the sphere, with ratings that follow them.

A row is its centre plus Gaussian noise of length 0.45 (in the mean), brought to length 1: two rows of a centre have a
cosine of about 0.83, two of different centres about 0. A rating is its centre's class 0–5, drawn from the shares of
gpt-4o-mini over 237,919 rows. The wrong ones are drawn from how often Llama-3.1-8B says each class where gpt-4o-mini
says a given one (both from the ratings that were released with DS2; the figures below are counted from them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRIOR = np.array([0.0399, 0.1093, 0.2678, 0.3250, 0.2422, 0.0158])
NOISE = np.array(
    [
        [0.16, 0.32, 0.21, 0.25, 0.05, 0.01],
        [0.10, 0.27, 0.21, 0.33, 0.08, 0.01],
        [0.09, 0.20, 0.19, 0.38, 0.13, 0.01],
        [0.10, 0.12, 0.15, 0.41, 0.21, 0.01],
        [0.11, 0.04, 0.08, 0.37, 0.37, 0.03],
        [0.12, 0.01, 0.06, 0.29, 0.46, 0.06],
    ]
)


@dataclass(frozen=True)
class Generated:
    """``vectors`` (n, dim) float16 unit rows, ``centre`` (n,), ``true`` and ``observed`` classes (n,) as floats."""

    vectors: npt.NDArray[np.float16]
    centre: npt.NDArray[np.int64]
    true: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]


def generate(
    n: int, *, dim: int = 384, per_centre: int = 15, noise: float = 0.45, wrong: float = 0.25, seed: int = 0
) -> Generated:
    """``n`` rows; a share ``wrong`` of the ratings is drawn anew from :data:`NOISE` (some of them come out right)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // per_centre), dim), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    centre = rng.integers(0, len(centres), n)
    vectors = np.empty((n, dim), np.float16)
    for start in range(0, n, 1 << 15):
        part = slice(start, min(start + (1 << 15), n))
        rows = rng.standard_normal((part.stop - start, dim), dtype=np.float32) * np.float32(noise / dim**0.5)
        rows += centres[centre[part]]
        vectors[part] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    true = rng.choice(6, len(centres), p=PRIOR / PRIOR.sum())[centre].astype(np.float64)
    return Generated(vectors, centre, true, with_noise(true, wrong, rng))


def with_noise(true: npt.NDArray[np.float64], wrong: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """``true`` with a share ``wrong`` of the ratings drawn anew from their row of :data:`NOISE`."""
    observed = true.copy()
    drawn = rng.permutation(len(true))[: round(wrong * len(true))]
    steps = (NOISE / NOISE.sum(axis=1, keepdims=True)).cumsum(axis=1)[true[drawn].astype(int)]
    observed[drawn] = (rng.random(len(drawn))[:, None] > steps).sum(axis=1).clip(0, 5)
    return observed
