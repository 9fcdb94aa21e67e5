"""The k-NN graph of a pool: built once, kept on disk, memory-mapped, extended when rows are appended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm_mixup.errors import RunError
from lm_mixup.neighbors.cells import Cells
from lm_mixup.neighbors.search import (
    Float16s,
    Floats,
    Int32s,
    Int64s,
    pair_products,
    search_exact,
    similarity_blocks,
    unit,
)

_VERSION = 2
_EXPAND_ROWS = 4096
_PRODUCT_ERROR = 1e-3
"""More than a matrix product and a rounding to float16 can be off."""


@dataclass(frozen=True)
class Graph:
    """Each row's nearest other rows.

    ``ids`` (n, k) int32 and ``similarities`` (n, k) float16, the cosines: nearest first, rows equally near (after
    rounding to float16) by row number. k is the number asked for or n − 1, whichever is less, so every entry is a
    neighbour. A row is never its own neighbour, but a copy of it may be; ``copy_of`` (n,) int32 is the first row that
    equals each bit by bit, itself where none does. ``exact`` says how the graph was found; ``recall`` is the share of
    the true neighbours that are in it, and ``error`` the standard deviation of what the mean cosine of a row's first 15
    falls short of the true one by, both measured on a sample (1 and 0 where exact).
    """

    ids: Int32s
    similarities: Float16s
    copy_of: Int32s
    exact: bool
    recall: float
    error: float = 0.0

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.ids.shape[0])

    @property
    def k(self) -> int:
        """Number of neighbours a row."""
        return int(self.ids.shape[1])

    def nearest(self, k: int) -> Graph:
        """The same graph with the first k neighbours alone (a view)."""
        return Graph(self.ids[:, :k], self.similarities[:, :k], self.copy_of, self.exact, self.recall, self.error)

    def save(self, folder: Path) -> None:
        """Write ``ids.npy``, ``similarities.npy``, ``copy_of.npy`` and, last, ``graph.json`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "ids.npy", self.ids, allow_pickle=False)
        np.save(folder / "similarities.npy", self.similarities, allow_pickle=False)
        np.save(folder / "copy_of.npy", self.copy_of, allow_pickle=False)
        head: dict[str, Any] = {"version": _VERSION, "n": self.n, "k": self.k, "exact": self.exact}
        head |= {"recall": self.recall, "error": self.error}
        (folder / "graph.json").write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Graph:
        """The graph in ``folder``, memory-mapped. Raises :class:`RunError` where it is absent, cut short or foreign."""
        try:
            head: dict[str, Any] = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
            ids = np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False)
            similarities = np.load(folder / "similarities.npy", mmap_mode="r", allow_pickle=False)
            copy_of = np.load(folder / "copy_of.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{folder}: expected a saved neighbour graph, got: {error}; delete the folder") from error
        shape = (head.get("n"), head.get("k"))
        fits = ids.shape == similarities.shape == shape and copy_of.shape == shape[:1]
        if head.get("version") != _VERSION or not fits:
            raise RunError(
                f"{folder}: expected a neighbour graph of version {_VERSION} and shape {shape}, got version "
                f"{head.get('version')}, shapes {ids.shape}, {similarities.shape}, {copy_of.shape}; delete the folder"
            )
        return cls(ids, similarities, copy_of, bool(head["exact"]), float(head["recall"]), float(head["error"]))


def build(
    vectors: Floats,
    k: int,
    *,
    seed: int = 0,
    exact_below: int = 50_000,
    error_target: float = 0.004,
    error_sample: int = 512,
    refine_reach: int = 12,
    cells_per_root: float = 2.0,
    train_per_cell: int = 32,
    threads: int | None = None,
) -> Graph:
    """The graph of ``vectors``: (n, dim), float16 or float32, unit rows, in memory or memory-mapped.

    Exact below ``exact_below`` rows. From there on an inverted file of ``cells_per_root`` × √n cells, trained on
    ``train_per_cell`` rows a cell: each row looks into its nearest cells, is offered to the rows that it found, and
    looks at the first ``refine_reach`` neighbours of as many neighbours. It looks into more cells until, on
    ``error_sample`` rows, :attr:`Graph.error` is at most ``error_target``; below 0, into all. Not recall decides: the
    far neighbours of a lonely row are all alike, and finding the very ones would cost a search of all rows.
    ``threads`` blocks of rows are searched for at once (all processors by default), beside the threads of numpy's own
    products. The same seed gives the same graph; another processor, or number of numpy's threads, may move last bits,
    and with them the partition of an approximate graph.

    Copies (rows equal bit by bit) are searched once and put back after, so that any number of them is no burden and
    each still finds the others.
    """
    if k < 0:
        raise ValueError(f"k is at least 0, got {k}")
    n = len(vectors)
    k = max(0, min(k, n - 1))
    copy_of = first_copies(vectors)
    if k == 0:
        return Graph(np.empty((n, 0), np.int32), np.empty((n, 0), np.float16), copy_of, True, 1.0)
    unique = np.flatnonzero(copy_of == np.arange(n))
    rows = vectors if len(unique) == n else vectors[unique]
    few = min(k, len(unique) - 1)
    exact, recall, error = len(unique) < exact_below, 1.0, 0.0
    if exact:
        base = unit(rows)
        ids, similarities = search_exact(base, base, few, own=np.arange(len(base)))
    else:
        cells = Cells(rows, seed=seed, threads=threads, cells_per_root=cells_per_root, train_per_cell=train_per_cell)
        found = cells.neighbors(few, error=error_target, reach=refine_reach, sample=error_sample, seed=seed)
        ids, similarities, recall, error = found.ids, found.similarities, found.recall, found.error
    if len(unique) < n:
        ids, similarities = _put_back(ids, similarities, copy_of, unique, k)
    return Graph(ids, similarities, copy_of, exact, recall, error)


def extend(graph: Graph, vectors: Floats, *, wanted: int, worth: float = 0.05, **rebuild: Any) -> Graph:
    """The graph of ``vectors``, whose first ``graph.n`` rows are those that ``graph`` was built of.

    The new rows are compared with all rows, exactly, and put into the lists of the old ones where they are nearer:
    for an exact graph the result is what a rebuild would give, at (new / all) of its cost. ``wanted`` is the k that the
    graph was asked for; where it was held below that by too few rows, it is built anew, with the settings ``rebuild``
    of :func:`build`. So is an approximate graph where more than the share ``worth`` of the rows is new, since comparing
    those with all costs more.
    """
    n, old = len(vectors), graph.n
    if n < old:
        raise ValueError(f"expected at least the {old} rows of the graph, got {n}")
    if n == old:
        return graph
    if graph.k < min(wanted, n - 1) or not (graph.exact or n - old <= worth * n):
        return build(vectors, wanted, **rebuild)
    if graph.k == 0:
        return build(vectors, 0)
    k = graph.k
    base = unit(vectors)
    last = graph.similarities[:, -1].astype(np.float32)
    joined: list[tuple[Int64s, Int64s, Float16s]] = []
    new_ids, new_similarities = search_exact(base[old:], base, k, own=np.arange(old, n))
    for start, _, table in similarity_blocks(base[old:], base[:old]):
        fresh, known = np.nonzero(table[:, :old] > last - _PRODUCT_ERROR)
        cosines = pair_products(base, fresh + start + old, base, known)
        values = np.minimum(cosines, 1).astype(np.float16)
        nearer = values > graph.similarities[known, -1]
        joined.append((known[nearer], fresh[nearer] + start + old, values[nearer]))
    ids = np.concatenate([graph.ids, new_ids])
    similarities = np.concatenate([graph.similarities, new_similarities])
    _insert(ids, similarities, *(np.concatenate(parts) for parts in zip(*joined, strict=True)))
    return Graph(ids, similarities, first_copies(vectors), graph.exact, graph.recall, graph.error)


def first_copies(vectors: Floats) -> Int32s:
    """(n,) The number of the first row that equals each row bit by bit; a row without an earlier copy is its own."""
    n = len(vectors)
    hashes = np.empty(n, np.uint64)
    factors = np.random.default_rng(0).integers(1, 1 << 63, vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    words = np.dtype(f"u{vectors.dtype.itemsize}")
    for start in range(0, n, 1 << 14):
        block = np.ascontiguousarray(vectors[start : start + (1 << 14)]).view(words).astype(np.uint64)
        hashes[start : start + len(block)] = (block * factors).sum(axis=1, dtype=np.uint64)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    found: Int32s = first.astype(np.int32)[inverse]
    # a hash may lie: a row that differs from the first of its hash counts as unique
    for row in np.flatnonzero(found != np.arange(n)):
        if not np.array_equal(vectors[row], vectors[found[row]]):
            found[row] = row
    return found


def _put_back(ids: Int32s, similarities: Float16s, copy_of: Int32s, unique: Int64s, k: int) -> tuple[Int32s, Float16s]:
    """From the graph of the unique rows (ids count those) to the graph of all rows."""
    n = len(copy_of)
    group = np.searchsorted(unique, copy_of)
    members = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=len(unique))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    all_ids, all_similarities = np.empty((n, k), np.int32), np.empty((n, k), np.float16)
    for start in range(0, n, _EXPAND_ROWS):
        rows = np.arange(start, min(start + _EXPAND_ROWS, n))
        own = group[rows][:, None]
        near = np.concatenate([own, ids[group[rows]]], axis=1)
        value = np.concatenate([np.ones((len(rows), 1), np.float16), similarities[group[rows]]], axis=1)
        # k + 1 copies of a row are enough: one of them may be the row itself
        counts = np.minimum(sizes[near], k + 1).ravel()
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        flat_ids = members[np.repeat(starts[near].ravel(), counts) + offsets]
        flat_values = np.repeat(value.ravel(), counts)
        flat_rows = np.repeat(np.arange(len(rows)), counts.reshape(near.shape).sum(axis=1))
        other = flat_ids != rows[flat_rows]
        chosen = _firsts(flat_rows[other], flat_ids[other], flat_values[other], k)
        all_ids[rows] = flat_ids[other][chosen].reshape(len(rows), k)
        all_similarities[rows] = flat_values[other][chosen].reshape(len(rows), k)
    return all_ids, all_similarities


def _firsts(rows: Int64s, ids: Int64s, similarities: Float16s, k: int) -> Int64s:
    """Positions of the first k entries of each row (similarity falling, id rising), row by row."""
    by = np.lexsort((ids, -similarities, rows))
    sorted_rows = rows[by]
    begins = np.flatnonzero(np.concatenate([[True], sorted_rows[1:] != sorted_rows[:-1]]))
    rank = np.arange(len(by)) - np.repeat(begins, np.diff(np.concatenate([begins, [len(by)]])))
    return by[rank < k]


def _insert(ids: Int32s, similarities: Float16s, rows: Int64s, new: Int64s, values: Float16s) -> None:
    """Put ``new`` ids with their similarities into the lists of ``rows``, in place; each list keeps its length."""
    if not len(rows):
        return
    k = ids.shape[1]
    touched = np.unique(rows)
    flat_rows = np.concatenate([np.repeat(touched, k), rows])
    flat_ids = np.concatenate([ids[touched].ravel(), new])
    flat_values = np.concatenate([similarities[touched].ravel(), values])
    chosen = _firsts(flat_rows, flat_ids, flat_values, k)
    ids[touched] = flat_ids[chosen].reshape(-1, k)
    similarities[touched] = flat_values[chosen].reshape(-1, k)
