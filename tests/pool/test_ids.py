from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.pool import ids
from lm_mixup.pool.ids import DuplicateRow, Ids
from lm_mixup.records import digest

from .helpers import chat, pool_file, read_all


def test_ids_within_and_across_files(tmp_path: Path) -> None:
    one = pool_file(tmp_path / "a.jsonl", [chat("q1", id="x"), chat("same"), chat("same"), chat("q2", id="x")])
    two = pool_file(tmp_path / "b.jsonl", [chat("q1", id="x"), chat("same"), chat("q2", id="x"), chat("q1", id="y")])
    good, bad, report = read_all([one, two])
    digests = {row.sample.prompt: row.sample.digest for row in good}
    same = digests["same"][:20]
    assert [row.sample.id for row in good] == ["x", same, f"{same}~2", f"x~{digests['q2'][:8]}", f"{same}~3", "y"]
    assert [(b.line, b.reason, b.detail) for b in bad] == [
        (1, "duplicate-row", f"first at {one} line 1"),
        (3, "duplicate-row", f"first at {one} line 4"),
    ]
    assert [(f.renamed_ids, f.repeated_rows) for f in report.files] == [(1, 1), (0, 1)]


def test_an_exported_id_meets_the_row_without_one(tmp_path: Path) -> None:
    (first,), _, _ = read_all(pool_file(tmp_path / "a.jsonl", [chat()]))
    path = pool_file(tmp_path / "b.jsonl", [chat(id=first.sample.id), chat(), chat(id=first.sample.id)])
    good, bad, _ = read_all(path)
    assert [row.sample.id for row in good] == [first.sample.id, f"{first.sample.id}~2"]
    assert [b.reason for b in bad] == ["duplicate-row"]


def test_many_identical_rows_get_their_numbers_in_linear_time() -> None:
    table = Ids()
    code = digest("x")
    assert [table.assign(None, code, 0, n).id for n in range(20_000)][-1] == f"{code[:20]}~20000"


@pytest.mark.parametrize("recent", [2, 7])
@given(rows=st.lists(st.tuples(st.sampled_from([None, "a", "b", "a~2"]), st.integers(0, 3))))
def test_ids_are_unique_and_independent_of_the_tables_inner_size(
    recent: int, rows: list[tuple[str | None, int]]
) -> None:
    def assign(limit: int) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ids._RowTable, "RECENT", limit)
            table = Ids()
            out = []
            for line, (given_id, content) in enumerate(rows):
                try:
                    out.append(table.assign(given_id, digest(content), 0, line).id)
                except DuplicateRow as duplicate:
                    out.append(f"line {duplicate.line}")
            return out

    found = assign(recent)
    assert found == assign(10**6)
    kept = [id_ for id_ in found if not id_.startswith("line ")]
    assert len(kept) == len(set(kept))
