"""CSV and TSV with a header line, by the standard library's reader."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lm_mixup.errors import PoolError
from lm_mixup.pool.json_lines import MAX_ROW_BYTES
from lm_mixup.pool.plain import check_text
from lm_mixup.pool.rows import FileReport, RawRow, RowProblem


def read_delimited(stream: IO[bytes], path: Path, delimiter: str, report: FileReport) -> Iterator[RawRow]:
    """The rows under the header, as text; ``line`` is the row's number, the header not counted.

    Quoted cells may hold line breaks. A BOM is dropped. A header without commas that has semicolons or tabs is read
    with those. Rows with another number of cells than the header are bad; ``raw`` is the row's own bytes.
    """
    # the limit is a global of the csv module; it only guards against a quote that never closes
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text)
    first = next(lines, "")
    if delimiter == "," and "," not in first:
        delimiter = next((other for other in ("\t", ";") if other in first), delimiter)
    lines.put_back(first)
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise PoolError(f"{path}: the header names a column twice: {', '.join(header)}. Expected different names")
        lines.take()
        for cells in reader:
            report.lines += 1
            raw = lines.take().rstrip("\r\n").encode("utf-8", "surrogateescape")
            if not cells or not raw.strip():
                report.blank += 1
                continue
            yield _row(header, cells, raw, report.lines)
    except csv.Error as error:
        raise PoolError(f"{path} row {report.lines + 1}: not CSV: {error}. Is a quote never closed?") from error


def _row(header: list[str], cells: list[str], raw: bytes, number: int) -> RawRow:
    if len(cells) != len(header):
        problem = RowProblem("wrong-cell-count", f"{len(cells)} cells under a header of {len(header)}")
        return RawRow(number, None, raw, problem)
    value: dict[str, Any] = dict(zip(header, cells, strict=True))
    try:
        check_text(value)
    except RowProblem as problem:
        return RawRow(number, None, raw, problem)
    return RawRow(number, value, raw)


class _Lines:
    """Lines for the csv reader that remember what one row was made of."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._taken: list[str] = []
        self._back: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._text)
        self._taken.append(line)
        return line

    def put_back(self, line: str) -> None:
        if line:
            self._back.append(line)
        self._taken.clear()

    def take(self) -> str:
        """Everything read since the last call."""
        taken = "".join(self._taken)
        self._taken.clear()
        return taken
