"""Ratings files: an id and one column a rater, as JSON Lines, JSON, CSV or Parquet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lm_mixup.errors import PoolError, RatingsError
from lm_mixup.pool.containers import container_of, read_rows
from lm_mixup.pool.ids import id_text
from lm_mixup.pool.rows import FileReport, RowProblem
from lm_mixup.records import RATING_MAX, RATING_MIN

Scale = Literal["0-5", "1-10"]

JUDGE_MIN, JUDGE_MAX = 1.0, 10.0
"""A judge's whole scale. METHOD § 1.1."""
CLIP_MIN, CLIP_MAX = 4.0, 9.0
"""What of it the compression to 0–5 keeps: clip to 4..9, subtract 4. METHOD § 1.1 (DS2)."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a ratings file fits a pool: rows with a rating, rows without, and ids that the pool does not have."""

    rated: int
    unrated: int
    unknown: int


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """``values`` is (n_ids, n_raters) float64 in 0–5, NaN where a rater gave none. ``repeated`` counts identical
    lines that were read once.
    """

    path: str
    ids: tuple[str, ...]
    raters: tuple[str, ...]
    values: npt.NDArray[np.float64]
    repeated: int = 0

    def of(self, rater: str | None = None) -> dict[str, float | None]:
        """One rater's ratings by id; ``rater`` may be left out where there is one only. Raises RatingsError."""
        if rater is None and len(self.raters) != 1:
            raise RatingsError(f"{self.path}: several raters ({', '.join(self.raters)}); name one with --rater")
        if rater is not None and rater not in self.raters:
            raise RatingsError(f"{self.path}: no rater {rater!r}; it has: {', '.join(self.raters)}")
        column = self.values[:, self.raters.index(rater) if rater is not None else 0]
        return {id_: None if math.isnan(value) else value for id_, value in zip(self.ids, column.tolist(), strict=True)}

    def coverage(self, pool_ids: Iterable[str], rater: str | None = None) -> Coverage:
        """How the file fits a pool of these ids."""
        ratings = self.of(rater)
        pool = set(pool_ids)
        rated = sum(ratings.get(id_) is not None for id_ in pool)
        return Coverage(rated, len(pool) - rated, len(ratings.keys() - pool))


def read_ratings(
    path: str | Path, rater: str | None = None, *, id_column: str = "id", scale: Scale = "0-5"
) -> dict[str, float | None]:
    """One rater's ratings by sample id, null where there is none.

    ``rater`` may be left out where only one column holds numbers; where several do, the error names them. Otherwise
    as :func:`read_all_ratings`.
    """
    file = _load(Path(path), id_column)
    chosen = file.raters(None if rater is None else [rater])
    if len(chosen) > 1:
        raise RatingsError(f"{path}: several columns of numbers ({', '.join(chosen)}); name one with --rater")
    return file.ratings(chosen, scale).of()


def read_all_ratings(
    path: str | Path, *, raters: Sequence[str] | None = None, id_column: str = "id", scale: Scale = "0-5"
) -> Ratings:
    """The ratings in a file: of the named raters, or of every column that holds numbers and nulls only.

    ``scale="1-10"`` reads a judge's overall ratings and compresses them to 0–5. Raises
    :class:`lm_mixup.errors.RatingsError`, with the line, for a missing or twice-rated id, a value that is no number,
    and one outside of the scale: a rating is never guessed.
    """
    file = _load(Path(path), id_column)
    return file.ratings(file.raters(raters), scale)


def compress(overall: float) -> float:
    """A judge's overall rating, 1–10, on 0–5: clipped to 4..9, minus 4. METHOD § 1.1."""
    return min(CLIP_MAX, max(CLIP_MIN, overall)) - CLIP_MIN


@dataclass(frozen=True, slots=True)
class _File:
    """A ratings file's rows by id, each with its line."""

    path: Path
    id_column: str
    rows: dict[str, tuple[int, dict[str, Any]]]
    repeated: int

    def raters(self, asked: Sequence[str] | None) -> list[str]:
        """The columns that are asked for, or that hold numbers and nulls only."""
        names = list(dict.fromkeys(name for _, row in self.rows.values() for name in row if name != self.id_column))
        numeric = [name for name in names if _is_numeric(row.get(name) for _, row in self.rows.values())]
        if asked is None:
            if not numeric:
                raise RatingsError(f"{self.path}: no column of numbers; columns: {', '.join(names) or 'none'}")
            return numeric
        for name in asked:
            if name not in names:
                raise RatingsError(
                    f"{self.path}: no rater {name!r}; columns of numbers: {', '.join(numeric) or 'none'}"
                )
        return list(asked)

    def ratings(self, raters: Sequence[str], scale: Scale) -> Ratings:
        """Their ratings, every value checked."""
        values = np.array(
            [[self._value(line, name, row.get(name), scale) for name in raters] for line, row in self.rows.values()]
        )
        return Ratings(str(self.path), tuple(self.rows), tuple(raters), values, self.repeated)

    def _value(self, line: int, rater: str, value: Any, scale: Scale) -> float:
        if value is None or value == "":
            return math.nan
        number = _number(value)
        low, high = (RATING_MIN, RATING_MAX) if scale == "0-5" else (JUDGE_MIN, JUDGE_MAX)
        if number is not None and math.isnan(number):
            return math.nan  # how pandas and numpy write "none"; JSON's NaN has become null on the way in
        if number is None or not low <= number <= high:
            hint = "" if scale == "1-10" else "; ratings of 1–10 are compressed only when asked for (scale 1-10)"
            raise RatingsError(
                f"{self.path} line {line}: {rater} is {value!r:.60}, expected {low:g}–{high:g} or null{hint}"
            )
        return number if scale == "0-5" else compress(number)


def _load(path: Path, id_column: str) -> _File:
    rows: dict[str, tuple[int, dict[str, Any]]] = {}
    repeated = 0
    for line, row in _rows(path):
        id_ = _id(path, line, row, id_column)
        first = rows.setdefault(id_, (line, row))
        if first[0] == line:
            continue
        if first[1] != row:
            raise RatingsError(f"{path} line {line}: id {id_!r} was rated differently at line {first[0]}; keep one")
        repeated += 1
    return _File(path, id_column, rows, repeated)


def _rows(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    container = container_of(path)
    if container is None or not path.is_file():
        raise RatingsError(
            f"{path}: expected a ratings file: .jsonl, .json, .csv, .tsv, .parquet (text also .gz, .zst)"
        )
    try:
        for raw in read_rows(path, container, FileReport(str(path), container)):
            if raw.value is None:
                raise RatingsError(f"{path} line {raw.line}: {raw.problem}; expected an object with an id")
            yield raw.line, raw.value
    except PoolError as error:
        raise RatingsError(str(error)) from error


def _id(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    try:
        id_ = id_text(row.get(column), column)
    except RowProblem as problem:
        raise RatingsError(f"{path} line {line}: {problem.detail}; expected text or a number") from None
    if id_ is None:
        raise RatingsError(f"{path} line {line}: no {column!r}; fields: {', '.join(map(repr, row))}")
    return id_


def _is_numeric(values: Iterable[Any]) -> bool:
    some = False
    for value in values:
        if value is None or value == "":
            continue
        if _number(value) is None:
            return False
        some = True
    return some


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):  # a CSV's cell
        try:
            return float(value)
        except ValueError:
            return None
    return None
