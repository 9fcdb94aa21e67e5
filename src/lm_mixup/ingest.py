"""Reading the pools into a run: good rows into one table, bad rows into quarantine, and the counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import orjson
import pyarrow as pa

from lm_mixup import __version__
from lm_mixup.errors import RatingsError
from lm_mixup.files import file_digest, replacing
from lm_mixup.pool import BadRow, PoolOptions, PoolReport, PoolRow, language, read
from lm_mixup.pool.table import encode_messages, write_table
from lm_mixup.recipe import PoolSettings
from lm_mixup.records import UNKNOWN_LANGUAGE
from lm_mixup.run_folder import Manifest, Run, step_key


def options(settings: PoolSettings) -> PoolOptions:
    """The recipe's pool settings in the reader's words."""
    return PoolOptions(
        columns=settings.columns,
        format=settings.format,
        strict=settings.strict,
        limit=settings.limit,
        rating_column=settings.rating_column,
    )


def rows(pools: Sequence[str], settings: PoolSettings, report: PoolReport | None = None) -> Iterator[PoolRow | BadRow]:
    """The rows of the pools as the settings say."""
    detect = language.detect if settings.detect_language else None
    return read(pools, options(settings), report=report, detect_language=detect)


def ingest(
    run: Run,
    pools: Sequence[str],
    settings: PoolSettings,
    ratings: Mapping[str, float | None] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Manifest, bool]:
    """Fill ``RUN/pool`` and ``RUN/quarantine.jsonl``; returns the manifest and whether it was already there.

    ``ratings`` (by sample id) are taken as they are, before what a rating column says. Raises PoolError as
    :func:`lm_mixup.pool.read` does, and RatingsError if none of the ratings is of a row of the pool.
    """
    key = step_key(
        version=__version__,
        settings=settings.model_dump(),
        pools=[(str(pool), content_digest(pool)) for pool in pools],
        ratings=sorted((ratings or {}).items()),
    )
    done = run.finished("pool", key)
    if done and (run.folder / "quarantine.jsonl").is_file():
        return done, True
    run.begin("pool")
    begin = time.perf_counter()
    report = PoolReport()
    bad: Counter[str] = Counter()
    used: set[str] = set()
    with replacing(run.folder / "quarantine.jsonl") as quarantine, quarantine.open("wb") as out:
        good = _good_rows(rows(pools, settings, report), out, bad, ratings or {}, used, advance)
        kept = write_table(run.records("pool"), good)
    if ratings and kept and not used:
        raise RatingsError(
            f"none of the {len(ratings)} ids of the ratings (such as {next(iter(ratings))!r}) is of a row of the "
            "pool; expected equal ids"
        )
    manifest = Manifest(
        step="pool",
        key=key,
        unit="rows",
        in_=kept + bad.total(),
        kept=kept,
        dropped=dict(sorted(bad.items())),
        seconds=time.perf_counter() - begin,
        notes=(*report.notes, *_ratings_note(ratings or {}, used, kept)),
        figures=report.as_json(),
    )
    return run.finish(manifest), False


def _good_rows(
    stream: Iterator[PoolRow | BadRow],
    quarantine: IO[bytes],
    bad: Counter[str],
    ratings: Mapping[str, float | None],
    used: set[str],
    advance: Callable[[int], None],
) -> Iterator[dict[str, object]]:
    for row in stream:
        advance(1)
        if isinstance(row, BadRow):
            bad[row.reason] += 1
            quarantine.write(orjson.dumps(row.as_json()) + b"\n")
            continue
        sample = row.sample
        rating = ratings.get(sample.id)
        if rating is not None:
            used.add(sample.id)
        yield {
            "id": sample.id,
            "source": sample.source,
            "pool": row.pool,
            "line": row.line,
            "task_type": str(sample.task_type),
            "language": sample.language,
            "digest": sample.digest,
            "messages": encode_messages(sample.messages),
            "fields": orjson.dumps(dict(sample.fields)).decode(),
            "rating": row.rating if rating is None else rating,
        }


def _ratings_note(ratings: Mapping[str, float | None], used: set[str], kept: int) -> tuple[str, ...]:
    if not ratings:
        return ()
    unknown = sum(rating is not None for rating in ratings.values()) - len(used)
    rest = f"; {unknown} ratings of the file are of no row of the pool" if unknown else ""
    return (f"{len(used)} of {kept} rows came with a rating from the file{rest}",)


def settled_languages(languages: pa.ChunkedArray, sources: pa.ChunkedArray) -> list[str]:
    """The language of each row, where an undetermined one takes its source's plain language.

    Short rows ("Sort of.") have no language that could be told; alone they would be kept out of every cluster.
    """
    listed, origins = languages.to_pylist(), sources.to_pylist()
    counts: dict[str, Counter[str]] = {}
    for code, source in zip(listed, origins, strict=True):
        counts.setdefault(source, Counter())[code] += 1
    plain = language.settle(counts)
    return [
        plain.get(source, code) if code == UNKNOWN_LANGUAGE else code
        for code, source in zip(listed, origins, strict=True)
    ]


def content_digest(pool: str) -> str:
    """Hash of what a pool holds: a file's bytes, or the names and bytes of all files in a folder; "" for a hub id."""
    path = Path(pool)
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return step_key(files=[(str(p.relative_to(path)), file_digest(p)) for p in files])
    return ""
