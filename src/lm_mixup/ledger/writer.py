"""The thread that writes a ledger: it gathers what comes within an interval, and commits it in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lm_mixup.errors import RunError
from lm_mixup.ledger.budget import Account, Reservation
from lm_mixup.ledger.entries import ANSWERED, Answer, Kept
from lm_mixup.ledger.tables import ATTEMPT_COLUMNS, insert, key_chunks, select_answers
from lm_mixup.ledger.underway import UnderWay

_NEEDLESS_CLAIMS = 1024
"""Claims on what is answered hold nobody off; they go so many at a time, since each is on another page of its table."""


@dataclass(slots=True)
class Transaction:
    """An open transaction of the writer's: its connection and the account, which is written back at its end.

    ``afterwards``: what is to be done once it is on disk.
    """

    db: sqlite3.Connection
    account: Account
    afterwards: list[Callable[[], None]] = field(default_factory=list)


Write = Callable[[Transaction], Any]


@dataclass(slots=True)
class _Group:
    writes: list[tuple[Kept | Write, asyncio.Future[Any]]] = field(default_factory=list)


class Writer:
    """Runs writes in groups on a thread of its own; a write's future is done when its group is on disk.

    ``connect`` opens the thread's connection; ``keep_alive`` runs in every group and at least every ``idle_s`` once it
    has returned True; ``leave`` runs in the last group. What an attempt brought stands in ``under_way`` before it waits
    for its group. ``guard`` is a context in which all SQL runs.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        *,
        owner: str,
        interval_s: float,
        idle_s: float,
        keep_alive: Callable[[sqlite3.Connection], bool],
        leave: Callable[[Transaction], None],
        under_way: UnderWay,
        guard: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._name = name
        self._connect = connect
        self._owner = owner
        self._interval_s = interval_s
        self._idle_s = idle_s
        self._keep_alive = keep_alive
        self._leave = leave
        self._under_way = under_way
        self._guard = guard
        self._alive = False
        self._answered: list[str] = []  # writer thread only: keys whose claims are needless now
        self._group = _Group()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"ledger {name}", daemon=True)
        self._thread.start()

    def submit(self, write: Kept | Write) -> asyncio.Future[Any]:
        """Hand over a write; RunError if the writer is closed."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closing:
                raise RunError(f"{self._name}: the ledger is closed")
            if isinstance(write, Kept):
                self._under_way.ended(write)
            self._group.writes.append((write, future))
            if len(self._group.writes) == 1:
                self._wake.notify()
        return future

    def sent(self, key: str, worst: Reservation) -> None:
        """Note that a request leaves which has no reservation in the ledger."""
        with self._wake:
            if not self._closing:
                self._under_way.sent(key, worst)

    def close(self) -> None:
        """Write what is waiting, and end. May be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        committed_at = -self._interval_s
        while True:
            with self._wake:
                if not self._group.writes and not self._closing:
                    self._wake.wait(self._idle_s if self._alive else None)
                while (rest := committed_at + self._interval_s - time.monotonic()) > 0 and not self._closing:
                    self._wake.wait(rest)
                group, self._group = self._group, _Group()
                closing = self._closing
                self._under_way.take_turns()
            if not group.writes and not self._alive and not closing:
                continue
            results: list[Any] = []
            error: Exception | None = None
            try:
                db = db or self._connect()
                with self._guard():
                    results = self._commit(db, [write for write, _ in group.writes], closing)
            except Exception as caught:  # noqa: BLE001 boundary: the thread must live, and those who wait must hear
                error = caught
            committed_at = time.monotonic()
            self._under_way.committed(everything=error is None)
            _tell([future for _, future in group.writes], results, error)
            if closing:
                if db is not None:
                    db.close()
                return

    def _commit(self, db: sqlite3.Connection, writes: Sequence[Kept | Write], closing: bool) -> list[Any]:
        """Do the group's writes in one transaction, which is on disk when this returns."""
        db.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(db, Account(db))
            kept = [write for write in writes if isinstance(write, Kept)]
            answers = iter(keep(transaction, kept) if kept else ())
            self._answered += [k.request.key for k in kept if k.answer is not None]
            if len(self._answered) >= _NEEDLESS_CLAIMS:
                self._drop_claims(db)
            results = [next(answers) if isinstance(write, Kept) else write(transaction) for write in writes]
            self._alive = self._keep_alive(db)
            if closing:
                self._leave(transaction)
            transaction.account.save()
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk may have ended it already
                db.execute("ROLLBACK")
            raise
        for step in transaction.afterwards:
            step()
        return results

    def _drop_claims(self, db: sqlite3.Connection) -> None:
        for marks, some in key_chunks(self._answered):
            db.execute(f"DELETE FROM claims WHERE owner = ? AND key IN ({marks})", [self._owner, *some])
        self._answered.clear()


def keep(transaction: Transaction, kept: Sequence[Kept]) -> list[Answer | None]:
    """Write attempts and answers; the answers that the ledger then holds (an earlier one stays), None for failures."""
    db = transaction.db
    requests = {k.request.key: (k.request.key, k.request.model, k.request.body) for k in kept}
    insert(db, "INSERT OR IGNORE INTO requests", list(requests.values()))
    insert(db, f"INSERT INTO attempts ({ATTEMPT_COLUMNS})", [_attempt_row(transaction.account, k) for k in kept])
    keys = list(dict.fromkeys(k.request.key for k in kept if k.answer is not None))
    held = select_answers(db, keys)
    fresh = {k.request.key: k for k in reversed(kept) if k.answer is not None and k.request.key not in held}
    insert(db, "INSERT INTO answers", [k.answer_row for k in fresh.values()])
    held |= {key: k.answer for key, k in fresh.items() if k.answer is not None}
    return [None if k.answer is None else held[k.request.key] for k in kept]


def _attempt_row(account: Account, kept: Kept) -> tuple[Any, ...]:
    attempt = kept.attempt
    tokens = (attempt.prompt_tokens, attempt.completion_tokens, attempt.price_usd)
    answered = attempt.outcome == ANSWERED
    charged = account.settle(kept.reserved, *tokens) if answered else account.fail(kept.reserved, attempt.billed)
    return (kept.request.key, attempt.outcome, attempt.detail, *tokens, *charged, attempt.latency_s, kept.ended_at)


def _tell(futures: Sequence[asyncio.Future[Any]], results: list[Any], error: Exception | None) -> None:
    """Finish the futures of a group: one wake-up for each event loop that waits."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for number, future in enumerate(futures):
        by_loop.setdefault(future.get_loop(), []).append((future, None if error else results[number]))

    def finish(waiting: list[tuple[asyncio.Future[Any], Any]]) -> None:
        for future, result in waiting:
            if future.done():
                continue  # cancelled by whoever waited
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    for loop, waiting in by_loop.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, waiting)
