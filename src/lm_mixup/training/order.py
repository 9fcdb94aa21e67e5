"""The order in which examples are trained on: fixed by the seed alone, so that a resumed training meets the same."""

from __future__ import annotations

import random
from collections.abc import Sequence

_POOL = 32
"""Batches that are sorted by length together: enough to save most padding, few enough to keep the order random."""


def batched_by_length(lengths: Sequence[int], *, batch: int, epochs: float, seed: int) -> list[int]:
    """Row numbers, epoch after epoch, such that each run of ``batch`` has rows of like length.

    Each epoch holds every row once, in an order of its own; a broken last epoch holds its share of the batches.
    """
    order: list[int] = []
    for epoch in range(-(-int(epochs * 1000) // 1000)):
        share = min(1.0, epochs - epoch)
        rows = list(range(len(lengths)))
        shuffle = random.Random(f"{seed}:{epoch}")
        shuffle.shuffle(rows)
        pools = [rows[i : i + _POOL * batch] for i in range(0, len(rows), _POOL * batch)]
        rows = [row for pool in pools for row in sorted(pool, key=lambda row: -lengths[row])]
        batches = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        whole, broken = [b for b in batches if len(b) == batch], [b for b in batches if len(b) < batch]
        shuffle.shuffle(whole)  # a broken batch stays last, or it would shift all that follow
        order += [row for b in (whole + broken)[: max(1, round(share * len(batches)))] for row in b]
    return order
