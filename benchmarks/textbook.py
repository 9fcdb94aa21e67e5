"""Plain implementations of the same pieces of work from scikit-learn and numpy: what ours is held to.

They do what the words say with the library call that is made for it, in blocks where memory asks for it, without the
ideas that make ours fast. Each takes float32 unit rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

Rows = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def neighbors(rows: Rows, queries: Ints, k: int) -> tuple[npt.NDArray[np.float64], Ints]:
    """Distances and ids of the k nearest others of ``queries``; the row itself is removed by identity."""
    index = NearestNeighbors(n_neighbors=min(k + 1, len(rows)), algorithm="brute", metric="cosine").fit(rows)
    distances, ids = index.kneighbors(rows[queries])
    other = ids != queries[:, None]
    other[other.all(axis=1), -1] = False
    shape = (len(queries), ids.shape[1] - 1)
    return distances[other].reshape(shape), ids[other].reshape(shape)


def long_tail(rows: Rows, queries: Ints, k: int = 15) -> npt.NDArray[np.float64]:
    """Mean cosine distance to the k nearest."""
    return neighbors(rows, queries, k)[0].mean(axis=1)


def clusters(rows: Rows, *, min_size: int, max_size: int, mean_size: float, seed: int = 0) -> Ints:
    """k-means with n / mean centres, then rows to the nearest centre with room, nearest first; small ones dissolved."""
    n = len(rows)
    means = MiniBatchKMeans(max(1, round(n / mean_size)), random_state=seed, n_init=1, batch_size=4096).fit(rows)
    centres = means.cluster_centers_
    near = min(32, len(centres))
    distances, choices = NearestNeighbors(n_neighbors=near, algorithm="brute").fit(centres).kneighbors(rows)
    labels, sizes = np.full(n, -1), np.zeros(len(centres), int)
    for flat in np.argsort(distances, axis=None, kind="stable"):
        row, centre = flat // near, choices.flat[flat]
        if labels[row] < 0 and sizes[centre] < max_size:
            labels[row], sizes[centre] = centre, sizes[centre] + 1
    _place(np.flatnonzero(labels < 0), rows, centres, labels, sizes, max_size)
    small = np.flatnonzero((sizes > 0) & (sizes < min_size))
    homeless = np.flatnonzero(np.isin(labels, small))
    labels[homeless], sizes[small] = -1, max_size  # closed
    _place(homeless, rows, centres, labels, sizes, max_size, only=sizes >= min_size)
    return labels


def _place(
    homeless: Ints,
    rows: Rows,
    centres: Rows,
    labels: Ints,
    sizes: Ints,
    max_size: int,
    only: npt.NDArray[np.bool_] | None = None,
) -> None:
    for row in homeless:
        room = np.flatnonzero((sizes < max_size) & (True if only is None else only))
        best = room[np.argmin(((centres[room] - rows[row]) ** 2).sum(axis=1))]
        labels[row], sizes[best] = best, sizes[best] + 1


def flags(
    rows: Rows, observed: Ints, share: npt.NDArray[np.float64], *, k: int = 10, rounds: int = 51, seed: int = 0
) -> npt.NDArray[np.bool_]:
    """DS2's detection as published: a k-NN search in each bootstrap round; see ``lm_mixup.curation`` for the words."""
    rng = np.random.default_rng(seed)
    n, classes = len(rows), len(share)
    drawn, flagged = np.zeros(n), np.zeros(n)
    for _ in range(rounds):
        sample = np.sort(rng.permutation(n)[: round(0.9 * n)])
        _, near = neighbors(rows[sample], np.arange(len(sample)), k - 1)
        label = observed[sample]
        support = (label[near] == label[:, None]).sum(axis=1)
        drawn[sample] += 1
        for one in range(classes):
            members = np.flatnonzero(label == one)
            worst = members[np.argsort(support[members], kind="stable")][: round(share[one] * len(members))]
            flagged[sample[worst]] += 1
    return flagged / np.maximum(drawn, 1) > 0.5


def near_duplicates(rows: Rows, threshold: float) -> Ints:
    """For each row the first kept row at least this near, or itself."""
    index = NearestNeighbors(radius=1 - threshold, algorithm="brute", metric="cosine").fit(rows)
    stands = np.full(len(rows), -1)
    for start in range(0, len(rows), 2048):
        near = index.radius_neighbors(rows[start : start + 2048], return_distance=False)
        for row, ids in enumerate(near, start):
            if stands[row] < 0:
                stands[row] = row
                free = ids[(stands[ids] < 0) & (ids > row)]
                stands[free] = row
    return stands
