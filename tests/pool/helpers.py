"""Small ways to make pools and to read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.pool import BadRow, PoolOptions, PoolReport, PoolRow, read


def chat(question: str = "What is 2 + 2?", answer: str = "4", **fields: Any) -> dict[str, Any]:
    """A row in messages."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {**fields, "messages": turns}


def pool_file(path: Path, rows: Iterable[Any]) -> Path:
    """A JSON Lines file of the rows."""
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def read_all(
    paths: Any, options: PoolOptions | None = None, **columns: str
) -> tuple[list[PoolRow], list[BadRow], PoolReport]:
    """Good rows, bad rows and the report, with the counts checked."""
    report = PoolReport()
    good: list[PoolRow] = []
    bad: list[BadRow] = []
    for row in read(paths, options or PoolOptions(columns=columns), report=report, detect_language=None):
        (good if isinstance(row, PoolRow) else bad).append(row)  # type: ignore[arg-type]
    assert report.lines == report.blank + report.rows + report.bad.total()
    assert (report.rows, report.bad.total()) == (len(good), len(bad))
    return good, bad, report


def texts(row: PoolRow) -> list[tuple[str, str]]:
    """The turns of a row."""
    return [(m.role, m.content) for m in row.sample.messages]
