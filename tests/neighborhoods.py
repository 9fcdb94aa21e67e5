"""Generated rows for the tests of neighbours, clusters, curation and selection: small, seeded, clustered."""

import numpy as np


def clustered(n, *, dim=32, per=6, noise=0.5, seed=0):
    """(n, dim) float16 unit rows around n / per centres, and each row's centre."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // per), dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    centre = rng.integers(0, len(centres), n)
    rows = centres[centre] + noise / np.sqrt(dim) * rng.standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16), centre


def cosines(vectors):
    """All cosines, float64."""
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T
