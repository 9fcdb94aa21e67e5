"""The content-addressed store: what went in comes out, in any order, after any restart."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import RunError
from lm_mixup.records import digest
from lm_mixup.store import Store

SCHEMA = pa.schema([pa.field("value", pa.float64()), pa.field("text", pa.string())])


def put(store: Store, names: list[str]) -> None:
    keys = [digest(n) for n in names]
    store.append(keys, [pa.array([float(len(n)) for n in names]), pa.array(names)])


@given(
    batches=st.lists(st.lists(st.text(min_size=1, max_size=5), max_size=6), max_size=5),
    asked=st.lists(st.text(min_size=1, max_size=5), max_size=12),
)
def test_what_went_in_comes_out_after_a_restart(tmp_path_factory: pytest.TempPathFactory, batches, asked):
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder, SCHEMA)
    seen: set[str] = set()
    for batch in batches:
        new = [n for n in dict.fromkeys(batch) if n not in seen]
        put(store, new)
        seen.update(new)
    for current in (store, Store(folder, SCHEMA)):
        assert len(current) == len(seen)
        missing = current.missing([digest(n) for n in asked])
        assert [asked[i] for i in missing] == [n for n in dict.fromkeys(asked) if n not in seen]
        known = [n for n in asked if n in seen]
        assert current.take([digest(n) for n in known]).column("text").to_pylist() == known


def test_an_absent_key_is_an_error(tmp_path: Path):
    store = Store(tmp_path, SCHEMA)
    put(store, ["a"])
    with pytest.raises(KeyError, match=digest("b")):
        store.take([digest("a"), digest("b")])


def test_a_half_written_segment_is_not_seen(tmp_path: Path):
    put(Store(tmp_path, SCHEMA), ["a", "b"])
    (tmp_path / ".seg-000001.arrow.1.tmp").write_bytes(b"ARROW1 half")
    store = Store(tmp_path, SCHEMA)
    put(store, ["c"])
    assert Store(tmp_path, SCHEMA).missing([digest(n) for n in "abc"]) == []


def test_a_damaged_segment_names_its_file(tmp_path: Path):
    put(Store(tmp_path, SCHEMA), ["a"])
    (tmp_path / "seg-000000.arrow").write_bytes(b"not arrow")
    with pytest.raises(RunError, match=r"seg-000000\.arrow"):
        Store(tmp_path, SCHEMA)


def test_other_columns_are_refused(tmp_path: Path):
    put(Store(tmp_path, SCHEMA), ["a"])
    with pytest.raises(RunError, match="another version"):
        Store(tmp_path, pa.schema([pa.field("other", pa.int32())]))
