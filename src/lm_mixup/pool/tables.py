"""Parquet and Arrow tables, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import PoolError
from lm_mixup.pool.plain import plain
from lm_mixup.pool.rows import FileReport, RawRow, RowProblem

BATCH_ROWS = 1024
"""Rows that are Python objects at once."""


def read_parquet(path: Path, report: FileReport) -> Iterator[RawRow]:
    """The rows of a Parquet file; memory: a row group's columns as Arrow, a batch as objects."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield from _rows(batch, report)
    except pa.ArrowException as error:
        raise _broken(path, report, "a Parquet file", error) from error


def read_arrow(path: Path, report: FileReport) -> Iterator[RawRow]:
    """The rows of an Arrow IPC file (Feather) or stream, memory-mapped."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                batches = iter(pa.ipc.open_stream(source))
            for batch in batches:
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield from _rows(batch.slice(start, BATCH_ROWS), report)
    except pa.ArrowException as error:
        raise _broken(path, report, "an Arrow file", error) from error


def _rows(batch: Any, report: FileReport) -> Iterator[RawRow]:
    import pyarrow as pa

    # dates, times and decimals become text in Arrow: the same with and without pandas installed, nanoseconds included
    schema = pa.schema([field.with_type(_plain_type(field.type)) for field in batch.schema])
    if schema != batch.schema:
        batch = batch.cast(schema)
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError:
        values = None
    for number in range(batch.num_rows):
        report.lines += 1
        try:
            if values is None:
                yield RawRow(report.lines, plain(batch.slice(number, 1).to_pylist()[0]))
            else:
                yield RawRow(report.lines, plain(values[number]))
        except UnicodeDecodeError as error:
            problem = RowProblem("not-utf8", f"byte 0x{error.object[error.start]:02x} in a text column")
            yield RawRow(report.lines, None, bytes(error.object), problem)
        except RowProblem as problem:
            value = values[number] if values is not None else None
            yield RawRow(report.lines, None, _as_bytes(value), problem)


def _as_bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return repr(value).encode("utf-8", "surrogatepass")


def _plain_type(kind: Any) -> Any:
    """The type with text in place of dates, times, decimals and dictionaries' indexes, at every level."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_temporal(kind) or types.is_decimal(kind):
        return pa.string()
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([f.with_type(_plain_type(f.type)) for f in (kind.field(i) for i in range(kind.num_fields))])
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    if types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    return kind


def _broken(path: Path, report: FileReport, expected: str, error: Exception) -> PoolError:
    return PoolError(f"{path}: expected {expected}, but after row {report.lines}: {error}")
