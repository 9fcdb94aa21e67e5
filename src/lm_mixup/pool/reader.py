"""Reading pools: files of many shapes in, samples and bad rows out, one after the other, in bounded memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from lm_mixup import task_types
from lm_mixup.errors import PoolError
from lm_mixup.pool import language
from lm_mixup.pool.containers import read_rows
from lm_mixup.pool.ids import DuplicateRow, Ids, id_text
from lm_mixup.pool.layout import KNOWN, LayoutFinder
from lm_mixup.pool.listing import PoolFile, expand
from lm_mixup.pool.messages import kind
from lm_mixup.pool.rows import BadRow, FileReport, PoolReport, PoolRow, RawRow, RowProblem
from lm_mixup.records import RATING_MAX, RATING_MIN, UNKNOWN_LANGUAGE, Sample, TaskType

PROBED_ROWS = 100
"""A file whose first hundred objects all are of no known layout is refused as a whole."""

SHOWN_FIELDS = 20

_TASK_TYPES = {name: kind for kind in TaskType for name in (str(kind), f"{kind}_mixup")}
_COMMON_COLUMNS = {"id": "id", "source": "source", "task_type": "task_type"}


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How to read pools.

    ``columns`` names the columns of parts where their names are not the usual ones, e.g. ``{"prompt": "q",
    "completion": "a", "id": "uid", "rating": "stars"}``; ``""`` for ``id``, ``source``, ``task_type`` or ``system``
    means: leave that column alone. ``format`` is ``messages``, ``alpaca``, ``prompt-completion``, ``sharegpt``, or
    None to tell each row's from its fields. ``strict`` raises at the first bad row. ``limit`` stops after so many
    good rows, over all files. ``rating_column`` holds ratings in 0–5; without it no column is read as ratings.
    """

    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    format: str | None = None
    strict: bool = False
    limit: int | None = None
    rating_column: str | None = None


def read(
    paths: Sequence[str | Path] | str | Path,
    options: PoolOptions | None = None,
    *,
    report: PoolReport | None = None,
    detect_language: Callable[[str], str] | None = language.detect,
) -> Iterator[PoolRow | BadRow]:
    """The rows of all pools, in the order of the paths and of the lines. ``report`` is filled on the way.

    ``detect_language`` is given a conversation's user and assistant turns and returns a code; None leaves every row
    at "und". Raises :class:`lm_mixup.errors.PoolError` for a file that cannot be read, for one of no known layout,
    and with ``strict`` for a bad row.
    """
    options = options or PoolOptions()
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    return _Reader(options, report if report is not None else PoolReport(), detect_language).read(given)


class _Reader:
    def __init__(self, options: PoolOptions, report: PoolReport, detect_language: Callable[[str], str] | None) -> None:
        columns = {part: name for part, name in options.columns.items() if name}
        self._ignored = {part for part, name in options.columns.items() if not name}
        if options.rating_column is not None and columns.setdefault("rating", options.rating_column) != (
            options.rating_column
        ):
            raise PoolError(f"two rating columns: {columns['rating']!r} and {options.rating_column!r}; name one")
        self._options = options
        self._columns = columns
        self._side = {part: name for part, name in _COMMON_COLUMNS.items() if part not in self._ignored} | {
            part: name for part, name in columns.items() if part in ("id", "source", "task_type", "rating", "language")
        }
        self._finder = LayoutFinder(options.format, options.columns)
        self._report = report
        self._detect_language = detect_language
        self._ids = Ids()
        self._never_seen = {self._side[part] for part in self._side if part in columns}

    def read(self, paths: Sequence[str | Path]) -> Iterator[PoolRow | BadRow]:
        left = self._options.limit
        # every name is looked at before the first row is read: a typing error in the last must not cost an hour
        for file in [file for path in paths for file in expand(path, self._report.notes)]:
            if left is not None and left <= 0:
                return
            counts = FileReport(file.name, file.container, file.path.stat().st_size)
            self._report.files.append(counts)
            for row in self._read_file(file, counts):
                yield row
                if isinstance(row, PoolRow) and left is not None:
                    left -= 1
                    if left <= 0:
                        return
            counts.complete = True
        if self._never_seen and self._report.rows:
            names = ", ".join(repr(name) for name in sorted(self._never_seen))
            raise PoolError(f"--columns names {names}, which no row of {', '.join(map(str, paths))} has")

    def _read_file(self, file: PoolFile, counts: FileReport) -> Iterator[PoolRow | BadRow]:
        """Rows in order. Raises :class:`PoolError` where the first objects all are of no known layout."""
        pool = len(self._report.files) - 1
        unknown: set[str] = set()
        objects, known, last = 0, False, None
        for raw in read_rows(file.path, file.container, counts):
            row = self._row(raw, counts, pool, file.source)
            if not known and raw.value is not None:
                known = isinstance(row, PoolRow) or self._finder.knows(raw.value)
                if not known and isinstance(row, BadRow):
                    objects, last = objects + 1, row
                    unknown.update(raw.value)
                    if objects >= PROBED_ROWS:
                        break
            yield row
        if last is not None and not known:
            raise self._unknown_layout(counts.pool, objects, unknown, last)

    def _row(self, raw: RawRow, counts: FileReport, pool: int, source: str) -> PoolRow | BadRow:
        try:
            if raw.value is None:
                raise raw.problem or RowProblem("not-an-object")
            row = self._good_row(raw.line, raw.value, raw.raw, counts, pool, source)
        except RowProblem as problem:
            detail = problem.detail
            if isinstance(problem, DuplicateRow):
                detail = f"first at {self._report.files[problem.pool].pool} line {problem.line}"
            data = raw.raw if raw.raw is not None else orjson.dumps(raw.value)
            bad = BadRow(counts.pool, raw.line, problem.reason, detail, data)
            if self._options.strict:
                raise bad.as_error() from None
            counts.bad[bad.reason] += 1
            return bad
        counts.rows += 1
        return row

    def _good_row(
        self, line: int, value: dict[str, Any], raw: bytes | None, counts: FileReport, pool: int, source: str
    ) -> PoolRow:
        layout = self._finder.find(value)
        messages, format_name = layout.messages(value)
        used = set(layout.columns.values())
        task_type = self._task_type(value, used) or task_types.detect(messages)
        rating = self._rating(value, used)
        given = self._id(value, raw, used)
        source = self._text("source", value, used) or source
        code = self._text("language", value, used)
        if code is None and self._detect_language is not None:
            code = self._detect_language("\n".join(m.content for m in messages if m.role in ("user", "assistant")))
        digest = Sample("", messages, task_type=task_type).digest
        assigned = self._ids.assign(given, digest, pool, line)
        counts.renamed_ids += assigned.renamed
        counts.repeated_rows += assigned.repeated
        counts.formats[format_name] += 1
        fields = {name: part for name, part in value.items() if name not in used}
        sample = Sample(assigned.id, messages, source, task_type, code or UNKNOWN_LANGUAGE, fields)
        return PoolRow(counts.pool, line, sample, rating, value)

    def _side_value(self, part: str, row: Mapping[str, Any]) -> Any:
        name = self._side.get(part)
        if name is None or name not in row:
            return None
        self._never_seen.discard(name)
        return row[name]

    def _text(self, part: str, row: Mapping[str, Any], used: set[str]) -> str | None:
        value = self._side_value(part, row)
        if not isinstance(value, str) or not value.strip():
            return None
        used.add(self._side[part])
        return value

    def _task_type(self, row: Mapping[str, Any], used: set[str]) -> TaskType | None:
        value = self._side_value("task_type", row)
        known = _TASK_TYPES.get(value) if isinstance(value, str) else None
        if known is not None:
            used.add(self._side["task_type"])
        elif value is not None and "task_type" in self._columns:
            raise RowProblem("unknown-task-type", f"{self._side['task_type']} is {value!r:.100}")
        return known

    def _rating(self, row: Mapping[str, Any], used: set[str]) -> float | None:
        value = self._side_value("rating", row)
        name = self._side.get("rating", "")
        used.add(name)
        if isinstance(value, str):
            value = _cell_number(value, name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RowProblem("bad-rating", f"{name} is {kind(value)}")
        if not RATING_MIN <= value <= RATING_MAX:
            raise RowProblem("bad-rating", f"{name} is {value!r}, outside of 0–5")
        return float(value)

    def _id(self, row: Mapping[str, Any], raw: bytes | None, used: set[str]) -> str | None:
        value = self._side_value("id", row)
        if isinstance(value, float) and raw is not None and abs(value) >= 2.0**63:
            value = json.loads(raw)[self._side["id"]]  # orjson made a float of a longer whole number
        text = id_text(value, self._side.get("id", "id"))
        if text is not None:
            used.add(self._side["id"])
        return text

    def _unknown_layout(self, pool: str, objects: int, keys: set[str], bad: BadRow) -> PoolError:
        shown = ", ".join(repr(key) for key in sorted(keys)[:SHOWN_FIELDS])
        return PoolError(
            f"{pool}: none of the first {objects} rows can be read as a conversation (line {bad.line}: {bad.reason}, "
            f"{bad.detail}). Known formats: {KNOWN}. Fields seen: {shown}. "
            "Name the columns, for example: --columns prompt=question,completion=reply"
        )


def _cell_number(text: str, name: str) -> float | None:
    """A CSV's cell as a number; None for an empty one and for "nan", which is how pandas writes "none"."""
    try:
        number = float(text) if text.strip() else None
    except ValueError:
        raise RowProblem("bad-rating", f"{name} is {text!r:.100}") from None
    return None if number is None or math.isnan(number) else number
