"""Row-wise work through a store: what is there is taken, what is missing is worked out chunk by chunk and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa

from lm_mixup.records import Failure
from lm_mixup.store import Store

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Called with the number of records that have just been finished."""


def silent(_: int) -> None:
    """A progress that nobody watches."""


def fill(
    store: Store,
    keys: Sequence[str],
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Sequence[Result | Failure]],
    encode: Callable[[Item, Result], tuple[object, ...]],
    *,
    chunk: int,
    progress: Progress = silent,
) -> dict[str, Failure]:
    """Work out every item whose key the store lacks, and store the results; return the failures by key.

    Failures are not stored: they are tried again by the next run. Raises ValueError if ``work`` returns another
    number of results than it was given items.
    """
    payload = list(store.schema)[1:]
    missing = store.missing(keys)
    progress(len(items) - len(missing))
    failures: dict[str, Failure] = {}
    for start in range(0, len(missing), chunk):
        positions = missing[start : start + chunk]
        results = work([items[i] for i in positions])
        if len(results) != len(positions):
            raise ValueError(f"expected {len(positions)} results, one for each record in order, got {len(results)}")
        done: list[str] = []
        rows: list[tuple[object, ...]] = []
        for position, result in zip(positions, results, strict=True):
            if isinstance(result, Failure):
                failures[keys[position]] = result
            else:
                done.append(keys[position])
                rows.append(encode(items[position], result))
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(payload)
        store.append(done, [pa.array(c, f.type) for c, f in zip(columns, payload, strict=True)])
        progress(len(positions))
    return failures
