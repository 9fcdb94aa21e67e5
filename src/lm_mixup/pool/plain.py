"""Rows as plain JSON values: what other containers and odd JSON hold is brought to what a record may hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson

from lm_mixup.pool.rows import RowProblem

MAX_DEPTH = 200
"""Levels of nesting in a row. orjson writes 254, and a record nests its row a few levels deeper."""

_BIGGEST, _SMALLEST = 2**64 - 1, -(2**63)
_OPTIONS = orjson.OPT_NON_STR_KEYS


def plain(value: Any) -> Any:
    """``value`` as JSON values; raises :class:`RowProblem` for what text cannot carry.

    NaN and infinities become null; dates and times ISO 8601; decimals their digits; bytes their UTF-8 text, or
    base64; whole numbers beyond 64 bits floats.
    """
    try:
        data = orjson.dumps(value, default=_other, option=_OPTIONS)
    except TypeError as error:
        check_depth(value)
        check_text(value)
        value = _small_numbers(value)
        try:
            data = orjson.dumps(value, default=_other, option=_OPTIONS)
        except TypeError:
            raise RowProblem("wrong-type", f"a value that JSON cannot hold: {error}") from None
    if b"\\u0000" in data:
        check_text(value)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        check_depth(value)
    return orjson.loads(data)


def check_text(value: Any) -> None:
    """Raise :class:`RowProblem` where any text in ``value`` holds a NUL or a lone surrogate."""
    for path, text in _texts(value, "row"):
        if "\0" in text:
            raise RowProblem("nul-character", f"in {path}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            code = ord(text[error.start])
            # U+DC80–DCFF is how Python carries bytes that were no UTF-8 (the "surrogateescape" of the text readers)
            if 0xDC80 <= code <= 0xDCFF:
                raise RowProblem("not-utf8", f"byte 0x{code - 0xDC00:02x} in {path}") from None
            raise RowProblem("lone-surrogate", f"U+{code:04X} in {path}") from None


def check_depth(value: Any, limit: int = MAX_DEPTH) -> None:
    """Raise :class:`RowProblem` where ``value`` nests deeper than ``limit`` levels. Does not recurse."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > limit:
            raise RowProblem("nested-too-deep", f"more than {limit} levels")
        level = [
            child
            for item in level
            if isinstance(item, dict | list | tuple)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list | tuple)
        ]


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    # recursion is safe: check_depth came first, or the value came from a parser with its own limit
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            if isinstance(key, str):
                yield f"a key of {path}", key
            yield from _texts(child, f"{path}.{ascii(key)[1:-1] if isinstance(key, str) else key}")
    elif isinstance(value, list | tuple):
        for number, child in enumerate(value):
            yield from _texts(child, f"{path}[{number}]")


def _small_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _small_numbers(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_small_numbers(child) for child in value]
    if isinstance(value, int) and not isinstance(value, bool) and not _SMALLEST <= value <= _BIGGEST:
        try:
            return float(value)
        except OverflowError:
            return None  # as an infinity would be
    return value


def _other(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(data).decode("ascii")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    raise TypeError(f"{type(value).__name__} is not JSON-able")
