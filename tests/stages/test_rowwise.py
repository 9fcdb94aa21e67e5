"""Row-wise work through a store: once for each content, chunk by chunk, failures not kept."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lm_mixup.records import Failure, digest
from lm_mixup.stages.rowwise import fill
from lm_mixup.store import Store

SCHEMA = pa.schema([pa.field("length", pa.int64())])


class Worker:
    def __init__(self, fails: str = "") -> None:
        self.asked: list[list[str]] = []
        self.fails = fails

    def __call__(self, items):
        self.asked.append(list(items))
        return [Failure(i, "test", "no") if i == self.fails else len(i) for i in items]


def run(store: Store, items: list[str], worker: Worker, chunk: int = 2):
    done: list[int] = []
    failures = fill(
        store, [digest(i) for i in items], items, worker, lambda _, n: (n,), chunk=chunk, progress=done.append
    )
    assert sum(done) == len(items) or len(set(items)) < len(items)
    return failures


def test_equal_items_are_worked_out_once_and_chunks_are_bounded(tmp_path: Path):
    worker = Worker()
    store = Store(tmp_path, SCHEMA)
    assert run(store, ["a", "bb", "a", "ccc", "bb"], worker) == {}
    assert worker.asked == [["a", "bb"], ["ccc"]]
    taken = store.take([digest(i) for i in ["bb", "a", "ccc", "a"]])
    assert taken.column("length").to_pylist() == [2, 1, 3, 1]


def test_what_was_done_is_not_done_again_by_another_process(tmp_path: Path):
    run(Store(tmp_path, SCHEMA), ["a", "bb"], Worker())
    again = Worker()
    run(Store(tmp_path, SCHEMA), ["a", "ccc", "bb"], again)
    assert again.asked == [["ccc"]]


def test_a_failure_is_said_and_tried_again(tmp_path: Path):
    store = Store(tmp_path, SCHEMA)
    failures = run(store, ["a", "bb"], Worker(fails="bb"))
    assert {k: f.reason for k, f in failures.items()} == {digest("bb"): "no"}
    again = Worker()
    assert run(store, ["a", "bb"], again) == {}
    assert again.asked == [["bb"]]


def test_a_worker_that_loses_a_result_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="expected 2 results"):
        fill(Store(tmp_path, SCHEMA), [digest(i) for i in "ab"], list("ab"), lambda _: [1], lambda _, n: (n,), chunk=9)
