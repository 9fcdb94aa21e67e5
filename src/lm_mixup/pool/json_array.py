"""JSON files that are one document: an array of rows, read piece by piece, or an object around one, read whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from lm_mixup.errors import PoolError
from lm_mixup.pool.json_lines import BOM, MAX_ROW_BYTES, parse_object
from lm_mixup.pool.rows import FileReport, RawRow, RowProblem

MAX_OBJECT_BYTES = 512 * 2**20
"""The largest file of one object around the rows: it is held in memory whole. Arrays have no such limit."""
WRAPPERS = ("data", "rows", "train", "examples", "instances")
"""Names under which a top-level object holds its rows."""

_PIECE_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = 16
"""Longer than any word or escape of JSON: an error further from the window's end is not one of being cut off."""
_DECODER = json.JSONDecoder()


def read_json_array(stream: IO[bytes], path: Path, report: FileReport) -> Iterator[RawRow]:
    """The rows of a top-level array. Memory: one row and a piece of the file.

    After a syntax error no later row's beginning is certain, so that raises :class:`PoolError`.
    """
    text = _Text(stream)
    if text.next_character() != "[":
        raise PoolError(f"{path}: expected a JSON array")
    text.skip(1)
    if text.next_character() != "]":
        while True:
            report.lines += 1
            raw = text.value(path, report)
            try:
                yield RawRow(report.lines, parse_object(raw), raw)
            except RowProblem as problem:
                yield RawRow(report.lines, None, raw, problem)
            after = text.next_character()
            if after == "]":
                break
            if after != ",":
                raise _broken(path, report, f"expected ',' or ']', got {after!r}")
            text.skip(1)
            text.next_character()
    text.skip(1)
    if text.next_character():
        raise _broken(path, report, "text after the array")


def read_json_object(stream: IO[bytes], path: Path, report: FileReport) -> Iterator[RawRow]:
    """The rows of an object that holds them under one of :data:`WRAPPERS`, or the object itself as the only row."""
    data = stream.read(MAX_OBJECT_BYTES + 1)
    if len(data) > MAX_OBJECT_BYTES:
        raise PoolError(
            f"{path}: one JSON object of more than {MAX_OBJECT_BYTES >> 20} MiB. "
            "Expected JSON Lines or an array of rows: write one row a line"
        )
    try:
        value = orjson.loads(data.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise _broken(path, report, str(error)) from None
    name = next((name for name in WRAPPERS if isinstance(value.get(name), list)), None)
    for row in value[name] if name else [value]:
        report.lines += 1
        raw = orjson.dumps(row)
        try:
            yield RawRow(report.lines, parse_object(raw), raw)
        except RowProblem as problem:
            yield RawRow(report.lines, None, raw, problem)


def wraps_rows(head: bytes) -> bool:
    """Whether the head of an object looks like one around a list of rows."""
    return any(re.match(rb'\{\s*"' + name.encode() + rb'"\s*:\s*\[', head) for name in WRAPPERS)


class _Text:
    """A growing window on a stream's text. Bytes that are no UTF-8 pass as lone surrogates, and come out again."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self._window = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next character that is not white space, which stays; "" at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._grow(_PIECE_BYTES):
                return ""

    def skip(self, characters: int) -> None:
        """Step over characters that were seen."""
        self._at += characters

    def value(self, path: Path, report: FileReport) -> bytes:
        """The bytes of the JSON value that begins here; raises :class:`PoolError` if there is none."""
        size = _PIECE_BYTES
        while True:
            try:
                _, end = _DECODER.raw_decode(self._window, self._at)
            except RecursionError:
                raise _broken(path, report, "nested too deep") from None
            except json.JSONDecodeError as error:
                problem: str | None = str(error)
                cut_off = error.msg.startswith("Unterminated") or error.pos + _TOKEN >= len(self._window)
                if not cut_off:
                    raise _broken(path, report, problem) from None
            except ValueError as error:  # a whole number of more digits than Python converts
                raise _broken(path, report, str(error)) from None
            else:
                # a number or a word may go on in the next piece
                problem = None
                if end < len(self._window) or self._ended:
                    raw = self._window[self._at : end].encode("utf-8", "surrogateescape")
                    self._at = end
                    return raw
            if len(self._window) - self._at > MAX_ROW_BYTES:
                raise _broken(path, report, f"a row of more than {MAX_ROW_BYTES >> 20} MiB")
            # doubling keeps the work linear in the row's length
            if not self._grow(size) and problem:
                raise _broken(path, report, problem)
            size *= 2

    def _grow(self, size: int) -> bool:
        if self._ended:
            return False
        data = self._stream.read(size)
        self._ended = not data
        self._window = self._window[self._at :] + self._decoder.decode(data, final=not data)
        self._at = 0
        return True


def _broken(path: Path, report: FileReport, problem: Any) -> PoolError:
    return PoolError(
        f"{path} row {report.lines}: not JSON: {problem}. Expected an array of rows; "
        "JSON Lines (one row a line) can be read around a broken row, an array cannot"
    )
