"""What holds for every pool: nothing crashes, the counts add up, and text comes back as it went in."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_mixup.errors import PoolError
from lm_mixup.pool import REASONS, PoolOptions, export, write_jsonl

from .helpers import chat, read_all

_FILES = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(str.strip)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Any conversation that is a valid sample."""
    turns = [{"role": "system", "content": draw(_TEXT)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append({"role": "user", "content": draw(_TEXT)})
        if draw(st.booleans()):
            turns.append({"role": "assistant", "content": "", "tool_calls": [{"function": draw(_JSON)}]})
            turns.append({"role": "tool", "content": draw(_TEXT), "tool_call_id": draw(_TEXT)})
        turns.append({"role": "assistant", "content": draw(_TEXT)})
    return turns


@_FILES
@given(rows=st.lists(st.tuples(conversations(), st.dictionaries(_TEXT, _JSON, max_size=2)), max_size=4))
def test_text_and_fields_come_back_as_they_went_in(
    rows: list[tuple[list[Any], dict[str, Any]]], tmp_path: Path
) -> None:
    taken = {"id", "source", "task_type", "messages", "system", "system_prompt"}
    wanted = [
        {"id": str(n), **{k: v for k, v in fields.items() if k not in taken}, "messages": turns}
        for n, (turns, fields) in enumerate(rows)
    ]
    write_jsonl(tmp_path / "p.jsonl", wanted)
    good, bad, _ = read_all(tmp_path / "p.jsonl")
    assert not bad
    back = [{"id": r.sample.id, **r.sample.fields, "messages": [m.as_dict() for m in r.sample.messages]} for r in good]
    assert back == wanted
    export(tmp_path / "q.jsonl", wanted)
    again, _, _ = read_all(tmp_path / "q.jsonl")
    assert [r.sample.messages for r in again] == [r.sample.messages for r in good]


_PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"\\ud83d",
        b"\\u0000",
        b"\0",
        b"\xff",
        b" ",
        b"NaN",
        b"1",
    ]
) | st.binary(max_size=6)
_BROKEN = st.lists(_PIECES, max_size=30).map(b"".join)


@_FILES
@given(parts=st.lists(_BROKEN, max_size=4))
def test_no_bytes_crash_the_reader_of_lines(parts: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    # a good row first, so that the file has a layout and every other line must find its own place
    path.write_bytes(b"\n".join([orjson.dumps(chat()), *parts]))
    lines = path.read_bytes().split(b"\n")
    good, bad, report = read_all(path)
    assert report.lines == len(lines) - (lines[-1] == b"")
    assert report.blank == sum(not line.strip() for line in lines) - (lines[-1] == b"")
    assert {b.reason for b in bad} <= set(REASONS)
    for row in bad:
        written = json.loads(orjson.dumps(row.as_json()))
        assert written.get("raw", "").encode() == row.raw or "raw_base64" in written
        assert row.raw == lines[row.line - 1].removesuffix(b"\r")
    assert len({r.sample.id for r in good}) == len(good)


@_FILES
@given(
    data=_BROKEN,
    name=st.sampled_from(["p.jsonl", "p.json", "p.csv", "p.tsv", "p.jsonl.gz", "p.jsonl.zst", "p.parquet", "p.arrow"]),
)
def test_no_file_crashes_the_reader(data: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with contextlib.suppress(PoolError):  # the only way to refuse a file; read_all checks the counts of the others
        read_all(path)


@_FILES
@given(
    turns=st.lists(
        st.dictionaries(st.sampled_from(["role", "content", "from", "value", "tool_calls"]), _JSON, max_size=4)
    )
)
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_no_turns_crash_the_formats(column: str, turns: list[Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [chat(), {column: turns}])
    good, bad, _ = read_all(tmp_path / "p.jsonl", PoolOptions())
    assert len(good) + len(bad) == 2
