"""How long texts are cut into windows, and windows gathered into batches: the same for every embedder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt


def window_spans(tokens: int, width: int, max_windows: int) -> list[tuple[int, int]]:
    """Where the windows of a text of ``tokens`` tokens begin and end; at least one, at most ``max_windows``.

    Up to ``max_windows * width`` tokens are covered once, by consecutive windows whose lengths differ by at most
    one. A longer text gets ``max_windows`` windows of ``width`` tokens: the first, the last, evenly spread between.
    """
    count = max(1, -(-tokens // width))
    if count <= max_windows:
        edges = [tokens * i // count for i in range(count + 1)]
        return list(itertools.pairwise(edges))
    if max_windows == 1:
        return [(0, width)]
    starts = [(tokens - width) * i // (max_windows - 1) for i in range(max_windows)]
    return [(start, start + width) for start in starts]


def batches(lengths: Sequence[int], *, batch_tokens: int, step: int) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """For each batch the indices of its windows and the length that they are padded to, longest first.

    The length is a multiple of ``step`` that follows from the window alone; a batch holds windows of one length, at
    most ``batch_tokens`` tokens of them (but at least one window).
    """
    padded = -(-np.array(lengths, np.int64) // step) * step
    order = np.argsort(-padded, kind="stable")
    for length in np.unique(padded)[::-1].tolist():
        rows = order[padded[order] == length]
        size = max(1, batch_tokens // length)
        for start in range(0, len(rows), size):
            yield rows[start : start + size], length
