"""The files that pools come in: told by their names' endings, opened, decompressed, and read row by row."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from lm_mixup.errors import PoolError
from lm_mixup.pool import delimited, json_array, json_lines, tables
from lm_mixup.pool.rows import FileReport, RawRow

COMPRESSIONS = (".gz", ".zst")
CONTAINERS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_COMPRESSIBLE = frozenset({"jsonl", "json", "csv", "tsv"})
_SNIFFED_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20


def container_of(path: str | Path) -> str | None:
    """The kind of file that a path's ending says (``jsonl``, ``parquet`` …), or None for what is no pool."""
    suffixes = [s.lower() for s in Path(path).suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    if compressed:
        suffixes.pop()
    container = CONTAINERS.get(suffixes[-1]) if suffixes else None
    return None if compressed and container not in _COMPRESSIBLE else container


def read_rows(path: Path, container: str, report: FileReport) -> Iterator[RawRow]:
    """The rows of one file, in its order. Raises :class:`PoolError` where the file, not a row, is broken."""
    try:
        if container == "parquet":
            yield from tables.read_parquet(path, report)
        elif container == "arrow":
            yield from tables.read_arrow(path, report)
        else:
            with open_binary(path) as stream:
                yield from _read_text(stream, path, container, report)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _broken(path, report, error) from error
    except OSError as error:
        # pyarrow says "ZSTD decompression failed" as an OSError without a number; the system's own errors have one
        if error.errno is None:
            raise _broken(path, report, error) from error
        raise PoolError(f"{path}: cannot be read: {error.strerror}") from error


def open_binary(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed on the way where its name ends in ``.gz`` or ``.zst``."""
    match path.suffix.lower():
        case ".gz":
            return cast(IO[bytes], gzip.open(path, "rb"))
        case ".zst":
            import pyarrow as pa

            stream: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
            return io.BufferedReader(stream, _BUFFER_BYTES)
    return open(path, "rb", buffering=_BUFFER_BYTES)


def _read_text(stream: IO[bytes], path: Path, container: str, report: FileReport) -> Iterator[RawRow]:
    if container in ("csv", "tsv"):
        return delimited.read_delimited(stream, path, "\t" if container == "tsv" else ",", report)
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(Any, stream), _BUFFER_BYTES)
    head = buffered.peek(_SNIFFED_BYTES).removeprefix(json_lines.BOM).lstrip()
    first_line = head.split(b"\n", 1)[0].strip()
    # a .jsonl that begins with a lone bracket and an object under it is an array under the wrong name
    if (container == "json" and head[:1] == b"[") or (first_line == b"[" and head[1:].lstrip()[:1] == b"{"):
        return json_array.read_json_array(buffered, path, report)
    if container == "json" and head[:1] == b"{" and not _lines_of_json(head):
        return json_array.read_json_object(buffered, path, report)
    return json_lines.read_json_lines(buffered, report)


def _lines_of_json(head: bytes) -> bool:
    """Whether a ``.json`` file that begins with an object is JSON Lines: a second line that begins one too."""
    lines = [line.lstrip() for line in head.split(b"\n") if line.strip()]
    if len(lines) < 2:
        # one line: a single row as JSON Lines, unless it is an object around a list of rows
        return not json_array.wraps_rows(lines[0]) if lines else True
    return lines[1][:1] == b"{" and lines[0].rstrip().endswith(b"}")


def _broken(path: Path, report: FileReport, error: Exception) -> PoolError:
    return PoolError(
        f"{path}: the file breaks off or is damaged after row {report.lines}: {error}. "
        "Expected a whole file; fetch it again, or cut it to what is whole"
    )
