"""JSON Lines: the one reader. A line is a row; what is wrong with one line never touches the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import orjson

from lm_mixup.pool.plain import MAX_DEPTH, check_depth, check_text, plain
from lm_mixup.pool.rows import FileReport, RawRow, RowProblem

MAX_ROW_BYTES = 256 * 2**20
"""A longer line is quarantined as ``row-too-large`` and skipped without being held in memory."""
KEPT_OF_TOO_LARGE = 2**20
"""How many bytes of such a line the quarantine keeps."""
BOM = b"\xef\xbb\xbf"


def read_json_lines(stream: IO[bytes], report: FileReport, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[RawRow]:
    """The rows of a binary stream. Handles a BOM, CRLF, blank lines, and a last line without a newline.

    Memory: one line. Blank lines are counted in ``report`` and not yielded.
    """
    number = 0
    while line := stream.readline(max_row_bytes + 1):
        number += 1
        report.lines += 1
        if len(line) > max_row_bytes and not line.endswith(b"\n"):
            kept, size = line[:KEPT_OF_TOO_LARGE], len(line)
            del line
            while rest := stream.readline(KEPT_OF_TOO_LARGE):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
            problem = RowProblem("row-too-large", f"{size} bytes, at most {max_row_bytes}; raw holds the first bytes")
            yield RawRow(number, None, kept, problem)
            continue
        if number == 1:
            line = line.removeprefix(BOM)
        raw = line[:-1] if line.endswith(b"\n") else line
        raw = raw[:-1] if raw.endswith(b"\r") else raw
        if not raw.strip():
            report.blank += 1
            continue
        try:
            yield RawRow(number, parse_object(raw), raw)
        except RowProblem as problem:
            yield RawRow(number, None, raw, problem)


def parse_object(raw: bytes) -> dict[str, Any]:
    """One JSON object as plain values; raises :class:`RowProblem`."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = _parse_odd(raw)  # NaN and what else orjson refuses: the standard library says what it is
    else:
        if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
            check_depth(value)
        if b"\\u0000" in raw:
            check_text(value)
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
        raise RowProblem("not-an-object", f"got {kind}")
    return value


def _parse_odd(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowProblem("not-utf8", f"byte 0x{raw[error.start]:02x} at column {error.start + 1}") from None
    if "\0" in text:
        raise RowProblem("nul-character", f"raw, at column {text.index(chr(0)) + 1}")
    try:
        value = json.loads(text)
    except RecursionError:
        raise RowProblem("nested-too-deep", f"more than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise RowProblem("broken-json", f"{error.msg.removesuffix(' at')}, column {error.colno}") from None
    except ValueError:  # a whole number of more digits than Python converts
        raise RowProblem("broken-json", "a number of thousands of digits") from None
    check_depth(value)
    check_text(value)
    return plain(value)
