"""The files that pools come in, opened by their names' endings, and the folders that hold them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from lm_mixup.errors import PoolError
from lm_mixup.pool.json_lines import read_json_lines
from lm_mixup.pool.rows import FileReport, RawRow

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
CONTAINERS = {".jsonl": "jsonl", ".ndjson": "jsonl"}


def container_of(path: Path) -> str | None:
    """The kind of file that a path's ending says, or None for a file that is no pool."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return CONTAINERS.get(suffixes[-1]) if suffixes else None


def read_rows(path: Path, container: str, report: FileReport) -> Iterator[RawRow]:
    """The rows of one file."""
    try:
        with open_binary(path) as stream:
            yield from read_json_lines(stream, report)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PoolError(f"{path}: broken after row {report.lines}: {error}") from error


def open_binary(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb", buffering=1 << 20)
