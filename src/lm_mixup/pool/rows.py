"""What a pool reader yields and reports: rows, bad rows, counts. Every reason a row can be bad for is listed here."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lm_mixup.errors import PoolError
from lm_mixup.records import Sample

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "broken-json": "the line is not JSON",
        "not-utf8": "the bytes are not UTF-8",
        "nul-character": "a NUL character, raw or escaped, anywhere in the row",
        "lone-surrogate": "half of a surrogate pair, which is no character, anywhere in the row",
        "not-an-object": "JSON, but not an object with named fields",
        "row-too-large": "longer than the limit for one row",
        "nested-too-deep": "more levels of lists and objects than can be written back",
        "wrong-cell-count": "a CSV row with more or fewer cells than the header",
        "unknown-layout": "the row's fields belong to no known format",
        "ambiguous-layout": "the row's fields fit more than one reading",
        "missing-field": "a field that the format or --columns asks for is not there",
        "wrong-type": "a field holds something else than its format says",
        "no-turns": "an empty conversation",
        "unknown-role": "a turn by someone who is not a known role",
        "non-text-content": "a part of a turn is an image, audio or a file",
        "no-user-turn": "nobody asks",
        "no-assistant-turn": "nobody answers",
        "ends-with-user": "the last turn is the user's, so there is no answer to learn from",
        "ends-with-system": "the last turn is the system's",
        "ends-with-tool": "the last turn is a tool's",
        "answer-is-tool-call": "the last turn only calls a tool: there is no text to rate or distill",
        "empty-prompt": "a user's turn is empty or white space",
        "empty-answer": "the last assistant's turn is null, empty or white space",
        "empty-turn": "an assistant's turn before the last is null, empty or white space",
        "bad-id": "the id is neither text nor a number",
        "duplicate-row": "the same id and the same conversation as an earlier row",
        "bad-rating": "the rating column holds no number in 0–5",
        "unknown-task-type": "the mapped task type column holds none of qa, mcq, tfq, cs, para",
    }
)
"""Every reason in a quarantine file, and what it means."""

_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "broken-json": "one JSON object on the line",
        "not-utf8": "UTF-8 text; convert the file, for example with iconv",
        "not-an-object": "a JSON object",
        "duplicate-row": "one row an id; remove the copy",
        "unknown-layout": "the fields of a known format; name the columns with --columns",
        "ambiguous-layout": "one prompt and one completion; name the columns with --columns",
        "bad-rating": "a number in 0–5, or null",
    }
)


class RowProblem(Exception):
    """Why one row cannot be used: a reason of :data:`REASONS` and the detail. Never leaves :mod:`lm_mixup.pool`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class RawRow:
    """A row as its container gave it: ``value`` is None where ``problem`` says why.

    ``line`` counts from 1: the line of a text file, the row of every other container. ``raw`` is the line's bytes
    without its line end, or None where the container has no bytes a row (the reader then writes the row as JSON).
    """

    line: int
    value: dict[str, Any] | None
    raw: bytes | None = None
    problem: RowProblem | None = None


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One good row. ``rating`` is a float in 0–5, or None; ``raw`` is the row object as read."""

    pool: str
    line: int
    sample: Sample
    rating: float | None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that cannot be used, with the bytes that it was read from."""

    pool: str
    line: int
    reason: str
    detail: str
    raw: bytes

    def as_json(self) -> dict[str, Any]:
        """The row's line in a quarantine file: ``raw`` as text, or ``raw_base64`` for bytes that are no UTF-8."""
        out: dict[str, Any] = {"pool": self.pool, "line": self.line, "reason": self.reason}
        if self.detail:
            out["detail"] = self.detail
        try:
            out["raw"] = self.raw.decode("utf-8")
        except UnicodeDecodeError:
            out["raw_base64"] = base64.b64encode(self.raw).decode("ascii")
        return out

    def as_error(self) -> PoolError:
        """The same as an error that ends the reading, for ``strict``."""
        expected = _EXPECTED.get(self.reason, "a row without this fault: " + REASONS[self.reason])
        return PoolError(
            f"{self.pool} line {self.line}: {self.reason}: {self.detail or REASONS[self.reason]}. "
            f"Expected {expected}. Mend the row, or read without --strict to quarantine it and go on."
        )


@dataclass(slots=True)
class FileReport:
    """What one file held. ``lines`` = ``blank`` + ``rows`` + the sum of ``bad``, once the file has been read.

    ``bytes`` is the file's size on disk; ``formats`` counts the good rows by format; ``renamed_ids`` are rows whose
    given id another conversation had already; ``repeated_rows`` are rows without an id that repeat an earlier one;
    ``complete`` is False where ``limit`` stopped the reading within the file.
    """

    pool: str
    container: str
    bytes: int = 0
    lines: int = 0
    blank: int = 0
    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    renamed_ids: int = 0
    repeated_rows: int = 0
    complete: bool = False


@dataclass(slots=True)
class PoolReport:
    """Filled while :func:`lm_mixup.pool.read` is iterated: one entry a file, and what was left aside and why."""

    files: list[FileReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """Lines, or rows of a table, that were looked at."""
        return sum(f.lines for f in self.files)

    @property
    def blank(self) -> int:
        """Lines with nothing or only white space on them."""
        return sum(f.blank for f in self.files)

    @property
    def rows(self) -> int:
        """Good rows."""
        return sum(f.rows for f in self.files)

    @property
    def bad(self) -> Counter[str]:
        """Bad rows by reason."""
        return sum((f.bad for f in self.files), Counter())

    def as_json(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "lines": self.lines,
            "blank": self.blank,
            "rows": self.rows,
            "bad": dict(sorted(self.bad.items())),
            "notes": list(self.notes),
            "files": [
                {name: dict(sorted(value.items())) if isinstance(value, Counter) else value for name, value in parts}
                for parts in ([(n, getattr(f, n)) for n in FileReport.__slots__] for f in self.files)
            ],
        }
