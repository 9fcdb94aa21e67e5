from __future__ import annotations

import errno
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lm_mixup.errors import InputError
from lm_mixup.pool import export, write_jsonl
from lm_mixup.pool.write import LOSSES

from .helpers import chat, read_all, texts

PLAIN = chat("Q {x} </answer> 日本語?\n", "A.\u2028", id="plain")
TURNS = {
    "id": "turns",
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
        {"role": "assistant", "content": "A2"},
    ],
}
TOOL = {
    "id": "tool",
    "messages": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "w", "arguments": '{"at": "x"}'}}],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "c"},
        {"role": "assistant", "content": "Sunny."},
    ],
}


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.parquet"])
@pytest.mark.parametrize("format_", ["messages", "sharegpt", "alpaca", "prompt-completion"])
def test_an_export_is_read_back(format_: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    report = export(path, [PLAIN, TURNS, TOOL], format_)
    assert report.rows == 3
    good, bad, read = read_all(path)
    assert not bad
    assert read.files[0].formats == {format_: 3}
    assert [row.sample.id for row in good] == ["plain", "turns", "tool"]
    assert texts(good[0]) == [("user", "Q {x} </answer> 日本語?\n"), ("assistant", "A.\u2028")]
    if format_ != "prompt-completion":
        assert texts(good[1]) == [(m["role"], m["content"]) for m in TURNS["messages"]]  # type: ignore[index]
    if format_ in ("messages", "sharegpt"):
        assert texts(good[2]) == [(m["role"], m["content"]) for m in TOOL["messages"]]  # type: ignore[index]
        (call,) = good[2].sample.messages[1].extra["tool_calls"]
        assert call["function"] == {"name": "w", "arguments": '{"at": "x"}'}
    if format_ == "messages":
        assert [m.as_dict() for m in good[2].sample.messages] == TOOL["messages"]


@pytest.mark.parametrize(
    ("format_", "losses"),
    [
        ("messages", {}),
        ("sharegpt", {"message-keys-dropped": 1}),
        (
            "alpaca",
            {"several-turns-in-history": 1, "turns-as-text": 1, "tool-calls-dropped": 1, "message-keys-dropped": 1},
        ),
        (
            "prompt-completion",
            {"turns-as-text": 2, "system-as-text": 1, "tool-calls-dropped": 1, "message-keys-dropped": 1},
        ),
    ],
)
def test_what_a_format_cannot_hold_is_said(format_: str, losses: dict[str, int], tmp_path: Path) -> None:
    report = export(tmp_path / "t.jsonl", [PLAIN, TURNS, TOOL], format_)
    assert report.losses == losses
    assert len(report.notes) == len(losses)
    assert set(losses) <= set(LOSSES)


def test_every_row_of_an_export_has_the_same_columns(tmp_path: Path) -> None:
    for format_ in ("alpaca", "prompt-completion", "sharegpt"):
        export(tmp_path / "t.jsonl", [PLAIN, TURNS], format_)
        first, second = (json.loads(line) for line in (tmp_path / "t.jsonl").read_bytes().splitlines())
        assert list(first) == list(second)
        export(tmp_path / "t.parquet", [PLAIN, TURNS], format_)
        assert pq.read_table(tmp_path / "t.parquet").to_pylist() == [first, second]


@pytest.mark.parametrize("name", ["t.csv", "t", "t.gz"])
def test_an_unknown_ending_or_format_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.jsonl"):
        export(tmp_path / name, [PLAIN])
    with pytest.raises(InputError, match="expected one of: messages"):
        export(tmp_path / "t.jsonl", [PLAIN], "chatml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst"])
def test_a_write_that_fails_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert write_jsonl(path, [{"a": 1}]) == 1
    before = path.read_bytes()

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 2}
        raise OSError(errno.EIO, "pulled out")

    with pytest.raises(OSError, match="pulled out"):
        write_jsonl(path, rows())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_jsonl(tmp_path / name, [{"a": 1}])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == b'{"a":1}\n'
