"""What a process has on its way, in a small file beside the ledger, so that a kill loses nothing that came in.

Answers wait some milliseconds for the next commit. A process that is killed in between would have them asked, and paid
for, again. So each is written here first, without a sync: what a killed process wrote is not lost. So is every request
that leaves without a reservation in the ledger, for the account. Whoever buries the process takes over what the ledger
does not hold yet.

::

    ["begin", number, [[key, tokens, usd], …]]     first line: which of the two files is the newer; what is on its way
    ["sent", key, tokens, usd]                     a request leaves; its worst case
    ["ended", request, attempt, ended_at, answer's row or null, reservation or null]

Two files take turns, so that neither grows with the run: when one is long, the other goes on, and the long one is
emptied once all of it is committed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import StorageError
from lm_mixup.ledger.budget import Reservation
from lm_mixup.ledger.entries import Attempt, Kept, Request
from lm_mixup.ledger.tables import answer_of

_TURN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Left:
    """What a process left: attempts that ended (the ledger may hold them); key, tokens, usd of those that did not."""

    ended: list[Kept]
    open: list[tuple[str, int, float | None]]


class UnderWay:
    """The files of one process, ``prefix`` and ``-0`` or ``-1``. Not thread-safe: the writer's lock guards it."""

    def __init__(self, prefix: Path, *, turn_bytes: int = _TURN_BYTES) -> None:
        self._paths = _paths(prefix)
        self._turn_bytes = turn_bytes
        self._open: dict[str, tuple[int, float | None]] = {}
        self._handles: dict[int, int] = {}  # by number of the turn
        self._turn = 0
        self._size = 0
        self._unsure = False  # a commit failed: what is in the files may not be in the ledger

    def sent(self, key: str, worst: Reservation) -> None:
        """A request leaves that has no reservation in the ledger."""
        self._open[key] = (worst.tokens, worst.usd)
        self._write(("sent", key, worst.tokens, worst.usd))

    def ended(self, kept: Kept) -> None:
        """An attempt has ended. On disk, as far as a kill goes, when this returns."""
        self._open.pop(kept.request.key, None)
        row = kept.answer_row or None
        self._write(("ended", kept.request, kept.attempt, kept.ended_at, row, kept.reserved))

    def take_turns(self) -> None:
        """Go on in the other file if this one is long and the other one empty."""
        if self._size > self._turn_bytes and len(self._handles) == 1 and not self._unsure:
            self._begin()

    def committed(self, everything: bool) -> None:
        """What was written before the last turn is in the ledger, or (not ``everything``) some of it may not be."""
        self._unsure |= not everything
        if len(self._handles) == 2 and not self._unsure:
            os.ftruncate(self._handles[self._turn - 1], 0)
            os.close(self._handles.pop(self._turn - 1))

    def left(self) -> Left:
        """What this process itself would leave now, everything being committed that could be."""
        if self._unsure:
            return _read(self._paths)
        return Left([], [(key, *worst) for key, worst in self._open.items()])

    def remove(self) -> None:
        """Close and take away the files."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._turn += 1
        path = self._paths[self._turn % 2]
        try:
            self._handles[self._turn] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        except OSError as error:
            raise _full(path, error) from error
        self._size = 0
        self._write(("begin", self._turn, [(key, *worst) for key, worst in self._open.items()]))

    def _write(self, line: tuple[Any, ...]) -> None:
        if not self._handles:
            self._begin()
        content = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        try:
            if os.write(self._handles[self._turn], content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _full(self._paths[self._turn % 2], error) from error
        self._size += len(content)


def left_by(prefix: Path) -> Left:
    """What a process that is gone left in its files; nothing where there are none."""
    return _read(_paths(prefix))


def remove(prefix: Path) -> None:
    """Take away the files of a process that is gone."""
    for path in _paths(prefix):
        with contextlib.suppress(OSError):  # a file that stays does no harm
            path.unlink(missing_ok=True)


def _paths(prefix: Path) -> tuple[Path, Path]:
    return prefix.with_name(prefix.name + "-0"), prefix.with_name(prefix.name + "-1")


def _read(paths: tuple[Path, Path]) -> Left:
    files = [lines for path in paths if (lines := _lines(path)) and lines[0][0] == "begin"]
    files.sort(key=lambda lines: int(lines[0][1]))
    ended: list[Kept] = []
    still_open: dict[str, tuple[int, float | None]] = {}
    for (_, _, under_way), *lines in files:
        still_open = {key: (tokens, usd) for key, tokens, usd in under_way}
        for kind, *told in lines:
            if kind == "sent":
                key, tokens, usd = told
                still_open[key] = (tokens, usd)
            else:
                kept = _kept(*told)
                still_open.pop(kept.request.key, None)
                ended.append(kept)
    return Left(ended, [(key, *worst) for key, worst in still_open.items()])


def _lines(path: Path) -> list[Any]:
    """The whole lines of a file. A kill may have cut the last one; nothing follows it."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = []
    for line in content.split(b"\n")[:-1]:
        try:
            lines.append(orjson.loads(line))
        except ValueError:
            break
    return lines


def _kept(request: Any, attempt: Any, ended_at: float, row: Any, reserved: Any) -> Kept:
    answer = answer_of(row[1:-1]) if row else None
    worst = Reservation(**reserved) if reserved else None
    return Kept(Request(**request), Attempt(**attempt), ended_at, answer, tuple(row or ()), worst)


def _full(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written ({error.strerror}); every answer committed so far is kept: make room and run the "
        "same command again"
    )
