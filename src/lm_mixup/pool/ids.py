"""Ids: given or made from the content, unique over all pools of a run, and remembered in about 40 bytes a row."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.pool.messages import kind
from lm_mixup.pool.rows import RowProblem

HASH_ID_DIGITS = 20
"""Hex digits of an id that is made from the content: 80 bits."""
RENAME_DIGITS = (8, 16, 32)
"""Hex digits of the digest after ``~`` where an id is taken: the first that is free."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """An id, and whether it is a given one that had to be changed, or a repeated row's numbered one."""

    id: str
    renamed: bool = False
    repeated: bool = False


class Ids:
    """Gives each row its id.

    - Given, new: kept as it is. Given again with the same conversation: ``duplicate-row``. Given again with another
      one: ``<id>~<8 digits of the digest>``, which depends on nothing but the row.
    - Not given: the first 20 digits of the digest; identical rows after the first ``<digits>~2``, ``~3`` …
    """

    def __init__(self) -> None:
        self._rows = _RowTable()
        self._repeats: dict[str, int] = {}

    def assign(self, given: str | None, digest: str, pool: int, line: int) -> Assigned:
        """The row's id; raises :class:`DuplicateRow`. ``digest`` is that of the sample (32 hex digits)."""
        code = int(digest[:16], 16)
        if given is None:
            return self._from_content(digest, code, pool, line)
        for candidate in (given, *(f"{given}~{digest[:digits]}" for digits in RENAME_DIGITS)):
            first = self._rows.find_or_add(candidate, code, pool, line)
            if first is None:
                return Assigned(candidate, renamed=candidate != given)
            if first.digest == code:
                raise DuplicateRow(first.pool, first.line)
        raise DuplicateRow(pool, line)  # 128 equal bits of digest: the same conversation

    def _from_content(self, digest: str, code: int, pool: int, line: int) -> Assigned:
        base = digest[:HASH_ID_DIGITS]
        number = self._repeats.get(base, 1)
        while True:
            candidate = base if number == 1 else f"{base}~{number}"
            taken = self._rows.find_or_add(candidate, code, pool, line) is not None
            if not taken:
                if number > 1:
                    self._repeats[base] = number + 1
                return Assigned(candidate, repeated=number > 1)
            number += 1


def id_text(value: Any, column: str) -> str | None:
    """A given id as text: a number's decimal digits, None for null and empty text. Raises :class:`RowProblem`."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes whole numbers with gaps between them as 7.0
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowProblem("bad-id", f"{column} is {kind(value)}")
    return value if isinstance(value, str) else repr(value)


class DuplicateRow(RowProblem):
    """The row stands already at ``line`` of the pool with this number."""

    def __init__(self, pool: int, line: int) -> None:
        super().__init__("duplicate-row")
        self.pool = pool
        self.line = line


@dataclass(frozen=True, slots=True)
class _Row:
    digest: int
    pool: int
    line: int


class _RowTable:
    """Maps a 64-bit hash of an id to the row's digest, pool and line.

    Recent rows are in a dict; full dicts become sorted arrays, which merge as they grow alike, so that there are few.
    """

    RECENT = 2**18

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._runs: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]] = []
        self._digests = array("Q")
        self._lines = array("Q")
        self._pools = array("I")

    def find_or_add(self, id_: str, digest: int, pool: int, line: int) -> _Row | None:
        """The row that has the id already, or None after this one was added."""
        key = int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "little")
        index = self._index(key)
        if index is not None:
            return _Row(self._digests[index], self._pools[index], self._lines[index])
        self._recent[key] = len(self._digests)
        self._digests.append(digest)
        self._lines.append(line)
        self._pools.append(pool)
        if len(self._recent) >= self.RECENT:
            self._settle()
        return None

    def _index(self, key: int) -> int | None:
        index = self._recent.get(key)
        if index is not None:
            return index
        for keys, indexes in self._runs:
            at = int(keys.searchsorted(np.uint64(key)))
            if at < len(keys) and int(keys[at]) == key:
                return int(indexes[at])
        return None

    def _settle(self) -> None:
        keys = np.fromiter(self._recent.keys(), np.uint64, len(self._recent))
        indexes = np.fromiter(self._recent.values(), np.uint64, len(self._recent))
        self._recent = {}
        while self._runs and len(self._runs[-1][0]) <= len(keys):
            more_keys, more_indexes = self._runs.pop()
            keys, indexes = np.concatenate([more_keys, keys]), np.concatenate([more_indexes, indexes])
        order = np.argsort(keys, kind="stable")
        self._runs.append((keys[order], indexes[order]))
