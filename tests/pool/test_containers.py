from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from lm_mixup.errors import PoolError
from lm_mixup.pool import json_array, json_lines
from lm_mixup.pool.rows import FileReport

from .helpers import chat, pool_file, read_all, texts

ROWS = [
    {"id": "a", "prompt": 'First,\n"quoted" and 日本語?', "completion": "Yes.\r\nTwo lines."},
    {"id": "b", "prompt": "Second; with {braces}", "completion": "No"},
    {"id": "c", "prompt": "Third\t", "completion": "😀"},
]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _csv(delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def _zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def _table(write: Callable[[pa.Table, Any], None]) -> bytes:
    sink = io.BytesIO()
    write(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def _stream(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


FILES: dict[str, bytes] = {
    "p.jsonl": _lines(ROWS),
    "p.ndjson": _lines(ROWS),
    "p.JSONL": _lines(ROWS),
    "p.jsonl.gz": gzip.compress(_lines(ROWS[:1])) + gzip.compress(_lines(ROWS[1:])),
    "p.jsonl.zst": _zst(_lines(ROWS[:1])) + _zst(_lines(ROWS[1:])),
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": b"\xef\xbb\xbf" + json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "pretty.jsonl": json.dumps(ROWS, indent=2).encode(),
    "lines.json": _lines(ROWS),
    "wrapped.json": json.dumps({"data": ROWS}).encode(),
    "wrapped_pretty.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "array.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "p.csv": _csv(),
    "bom.csv": b"\xef\xbb\xbf" + _csv(),
    "semicolons.csv": _csv(";"),
    "p.tsv": _csv("\t"),
    "p.csv.gz": gzip.compress(_csv()),
    "p.parquet": _table(pq.write_table),
    "p.feather": _table(pyarrow.feather.write_feather),
    "p.arrow": _table(_stream),
}


@pytest.mark.parametrize("name", FILES)
def test_every_container_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    good, bad, report = read_all(path)
    assert not bad
    assert [row.sample.id for row in good] == ["a", "b", "c"]
    assert [texts(row) for row in good] == [[("user", r["prompt"]), ("assistant", r["completion"])] for r in ROWS]
    assert [row.line for row in good] == [1, 2, 3]
    assert report.files[0].bytes == len(FILES[name])


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.jsonl.gz", "p.jsonl.zst"])
def test_an_empty_file_is_an_empty_pool(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes({"gz": gzip.compress(b""), "zst": _zst(b"")}.get(name.rsplit(".")[-1], b""))
    assert read_all(path)[2].lines == 0


@pytest.mark.parametrize("data", [b"[]", b" [ ] \n"])
def test_an_empty_array_is_an_empty_pool(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(data)
    assert read_all(tmp_path / "p.json")[2].lines == 0


def test_one_object_is_one_row(tmp_path: Path) -> None:
    for name, data in {"a.json": json.dumps(chat()), "b.json": json.dumps(chat(), indent=2)}.items():
        (tmp_path / name).write_text(data)
        assert len(read_all(tmp_path / name)[0]) == 1


def test_bad_rows_of_an_array_are_quarantined(tmp_path: Path) -> None:
    rows = [json.dumps(chat("1")), '{"prompt": "caf\xe9"}', "[1]", '{"x": "\\ud800"}', json.dumps(chat("2")), "7"]
    (tmp_path / "p.json").write_bytes(("[" + " ,\n".join(rows) + "]").encode("latin-1"))
    good, bad, _ = read_all(tmp_path / "p.json")
    assert [row.line for row in good] == [1, 5]
    assert [(b.line, b.reason) for b in bad] == [
        (2, "not-utf8"),
        (3, "not-an-object"),
        (4, "lone-surrogate"),
        (6, "not-an-object"),
    ]
    assert bad[0].raw == rows[1].encode("latin-1")


def test_an_array_is_read_across_the_edges_of_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [chat(f'{n} é😀 \\ " {"x" * n}', str(-n / 7), n=n) for n in range(60)]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(rows, ensure_ascii=False))
    whole = [row.raw for row in read_all(path)[0]]
    for piece in (1, 7, 64):
        monkeypatch.setattr(json_array, "_PIECE_BYTES", piece)
        assert [row.raw for row in read_all(path)[0]] == whole == rows


@pytest.mark.parametrize(
    "data", [b"[{}", b'[{"a": 1} {"b": 2}]', b"[1, ]", b"[{]", b'[{"a": "x]', b"[1] 2", b"[" + b"[" * 100_000]
)
def test_a_broken_array_is_refused_with_its_row(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(data)
    with pytest.raises(PoolError, match=r"p\.json row \d+: not JSON"):
        read_all(tmp_path / "p.json")


@pytest.mark.parametrize("name", ["p.jsonl.gz", "p.jsonl.zst", "p.parquet", "p.arrow"])
@pytest.mark.parametrize("damage", ["cut", "not what it says"])
def test_a_damaged_file_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    rows = [chat(f"{n} {hash(str(n))}") for n in range(5000)]
    whole = {
        "p.jsonl.gz": lambda: gzip.compress(_lines(rows)),
        "p.jsonl.zst": lambda: _zst(_lines(rows)),
        "p.parquet": lambda: FILES["p.parquet"],
        "p.arrow": lambda: FILES["p.arrow"],
    }[name]()
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b'{"prompt": "a", "completion": "b"}\n' * 9)
    with pytest.raises(PoolError, match=r"p\."):
        read_all(path)


def test_csv_rows_of_another_width_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(
        b'prompt,completion\r\na,b\r\n\r\nc\r\n"d ""q"" \r\n",e,f\r\n"g\n",h\ncaf\xe9,i\nj,"k"'
    )
    good, bad, report = read_all(tmp_path / "p.csv")
    assert [texts(row)[0][1] for row in good] == ["a", "g\n", "j"]
    assert [(b.line, b.reason, b.raw) for b in bad] == [
        (3, "wrong-cell-count", b"c"),
        (4, "wrong-cell-count", b'"d ""q"" \r\n",e,f'),
        (6, "not-utf8", b"caf\xe9,i"),
    ]
    assert report.blank == 1


def test_csv_header_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,prompt,completion\na,b,c\n")
    with pytest.raises(PoolError, match="column twice"):
        read_all(tmp_path / "p.csv")


def test_csv_with_long_cells(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,completion\na," + "x" * 500_000 + "\n")
    assert len(read_all(tmp_path / "p.csv")[0][0].sample.completion) == 500_000


def test_parquet_types_become_plain_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": ["a"],
            "completion": pa.array(["b"]).dictionary_encode(),
            "day": [date(2026, 1, 2)],
            "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
            "price": [Decimal("1.50")],
            "blob": [b"\xff\x00"],
            "textual": [b"abc"],
            "nan": [float("nan")],
            "nested": [{"when": [datetime(2026, 1, 2)], "n": 2**63 - 1}],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "none": [None],
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    (good,), _, _ = read_all(tmp_path / "p.parquet")
    fields = dict(good.sample.fields)
    assert fields.pop("day") == "2026-01-02"
    assert fields.pop("at").startswith("2026-01-02 03:04:05")
    assert fields.pop("price") == "1.50"
    assert fields.pop("blob") == "/wA="
    assert fields.pop("textual") == "abc"
    assert fields.pop("nan") is None
    nested = fields.pop("nested")
    assert nested["when"][0].startswith("2026-01-02")
    assert nested["n"] == 2**63 - 1
    assert fields.pop("map") == [["k", 1]]
    assert fields == {"none": None}


def test_parquet_with_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    data = pa.array([b"ok", b"caf\xe9", b"fine"])
    prompt = pa.Array.from_buffers(pa.string(), 3, data.buffers())
    pq.write_table(pa.table({"prompt": prompt, "completion": ["1", "2", "3"]}), tmp_path / "p.parquet")
    good, bad, _ = read_all(tmp_path / "p.parquet")
    assert [row.line for row in good] == [1, 3]
    assert [(b.line, b.reason, b.raw) for b in bad] == [(2, "not-utf8", b"caf\xe9")]


def test_bad_rows_of_a_table_are_written_as_json(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["a", "n\0"], "completion": [None, "b"]}), tmp_path / "p.parquet")
    _, bad, _ = read_all(tmp_path / "p.parquet")
    assert [(b.line, b.reason) for b in bad] == [(1, "empty-answer"), (2, "nul-character")]
    assert [json.loads(b.raw) for b in bad] == [
        {"prompt": "a", "completion": None},
        {"prompt": "n\0", "completion": "b"},
    ]


def test_a_row_over_the_limit_is_skipped_and_counted() -> None:
    long = json.dumps(chat("x" * 500)).encode()
    data = b"\n".join([json.dumps(chat("a")).encode(), long, b"", json.dumps(chat("b")).encode(), long])
    report = FileReport("p", "jsonl")
    rows = list(json_lines.read_json_lines(io.BytesIO(data), report, max_row_bytes=200))
    assert [(row.line, row.problem and row.problem.reason) for row in rows] == [
        (1, None),
        (2, "row-too-large"),
        (4, None),
        (5, "row-too-large"),
    ]
    assert (report.lines, report.blank) == (5, 1)


@pytest.mark.parametrize("levels", [150, 260, 2_000, 200_000])
def test_nesting_is_bounded(levels: int, tmp_path: Path) -> None:
    deep = "[" * levels + "]" * levels
    row = json.dumps(chat())[:-1] + f', "deep": {deep}}}'
    path = tmp_path / "p.jsonl"
    path.write_text(f"{row}\n{json.dumps(chat('b'))}\n")
    good, bad, _ = read_all(path)
    assert len(good) == (2 if levels == 150 else 1)
    assert [b.reason for b in bad] == ([] if levels == 150 else ["nested-too-deep"])


def test_numbers_that_json_libraries_disagree_on(tmp_path: Path) -> None:
    head = json.dumps(chat())[:-1]
    (tmp_path / "p.jsonl").write_text(
        f'{head}, "id": 123456789012345678901234567890, "big": 1e400, "long": {"9" * 40}}}\n'
        f'{head}, "id": 7.0}}\n{head}, "id": 0.5}}\n{head}, "id": ""}}\n{head}, "n": {"1" * 5000}}}\n'
    )
    good, bad, _ = read_all(tmp_path / "p.jsonl")
    assert [row.sample.id for row in good] == [
        "123456789012345678901234567890",
        "7",
        "0.5",
        good[3].sample.digest[:20],
    ]
    assert good[0].sample.fields == {"big": None, "long": 1e40}
    assert [b.reason for b in bad] == ["broken-json"]


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps(chat("a\u2028b\x85c"), ensure_ascii=False).encode() + b"\r\n")
    assert read_all(path)[0][0].sample.prompt == "a\u2028b\x85c"


def test_a_missing_unknown_or_odd_path_is_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "p.docx").write_text("x")
    os.mkfifo(tmp_path / "pipe.jsonl")
    pool_file(tmp_path / "ok.jsonl", [chat()])
    for path, said in {
        tmp_path / "absent.jsonl": "no such file",
        tmp_path / "p.docx": r"ends in \.jsonl",
        tmp_path / "pipe.jsonl": "neither a file nor a folder",
    }.items():
        with pytest.raises(PoolError, match=said):
            read_all([tmp_path / "ok.jsonl", path])
