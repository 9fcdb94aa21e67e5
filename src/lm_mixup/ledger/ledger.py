"""The ledger that users see. A request's key is the content hash of the model, the messages, the sampling settings and
the schema (:class:`Request`). An answer that reached the ledger is never asked for again, whoever asks: a later run,
another stage, or another process on the same file. Attempts that failed are kept for the account and never served.

Writing is done by one thread in groups (a commit with ``synchronous=FULL`` at most ``commit_interval_s`` after the
first write of the group), so that thousands of answers a second cost few syncs; a write's future is done when
its group is on disk. Reading uses a connection of its own. Several processes may share the file: whoever is about to
ask *claims* the keys, and a claim falls when its owner is done, dead, or silent for ``stale_after_s``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import orjson

from lm_mixup.ledger.batches import BatchBook
from lm_mixup.ledger.budget import Budget, Price, Reservation, Spent
from lm_mixup.ledger.entries import ANSWERED, LOST, Answer, Attempt, Kept, Opened, Request, Usage
from lm_mixup.ledger.tables import ATTEMPT_COLUMNS, insert, key_chunks, prepare, select_answers, storage_errors
from lm_mixup.ledger.underway import UnderWay, left_by, remove
from lm_mixup.ledger.writer import Transaction, Write, Writer, keep

T = TypeVar("T")

_CHECKPOINT_PAGES = 4000
"""Of 4 kB: how long the write-ahead log grows. Keys are hashes, so that every answer touches other pages of an index;
the longer the log, the more of them are copied into the file once instead of again and again."""

_CACHE_KB = 8192


class Ledger:
    """The ledger in the file ``path``, made if it is not there. Safe for threads, event loops and processes.

    ``commit_interval_s`` (at most 0.05) bounds how long a finished answer can wait for the disk; a process that is
    killed meanwhile loses none (:mod:`lm_mixup.ledger.underway`), a machine that goes down does. ``busy_timeout_s`` is
    how long to wait for another process that writes. ``clock`` gives the seconds since the epoch.

    Raises :class:`RunError` where the file is no ledger of this version, :class:`StorageError` where it cannot be
    written; the same from every method and future, once the disk is full. What was committed before stays whole.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        commit_interval_s: float = 0.04,
        busy_timeout_s: float = 60.0,
        stale_after_s: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= commit_interval_s <= 0.05:
            raise ValueError(f"commit_interval_s: expected 0 to 0.05, got {commit_interval_s}")
        self.path = Path(path)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._busy_timeout_s = busy_timeout_s
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._reader = self._connect(create=True)
        self._reader_lock = threading.Lock()
        self._under_way = UnderWay(self._way_of(self.owner))
        self._registered = False  # writer thread only: whether this owner has claims to keep alive
        self._writer = Writer(
            str(self.path),
            self._connect,
            owner=self.owner,
            interval_s=commit_interval_s,
            idle_s=stale_after_s / 3,
            keep_alive=self._keep_alive,
            leave=self._leave,
            under_way=self._under_way,
            guard=lambda: storage_errors(self.path),
        )
        self.batches = BatchBook(self._submit, self._read, clock)
        """What was handed to providers' batch endpoints."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting, give up all claims, and close the file. May be called twice.

        What this owner still has reserved was cut off on the way: it stays charged.
        """
        self._writer.close()
        with self._reader_lock:
            self._reader.close()

    # ---- reading -----------------------------------------------------------------------------------------------

    def get(self, key: str) -> Answer | None:
        """The answer under ``key``, or None."""
        return self.answers([key]).get(key)

    def answers(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, by key."""
        return self._read(lambda db: select_answers(db, list(keys)))

    def failure(self, key: str) -> Attempt | None:
        """The last attempt at ``key`` that failed, or None."""
        query = "SELECT outcome, detail FROM attempts WHERE key = ? AND outcome != 'answer' ORDER BY id DESC LIMIT 1"
        row = self._read(lambda db: db.execute(query, (key,)).fetchone())
        return None if row is None else Attempt(*row)

    def usage(self) -> Usage:
        """Sums over all attempts that were ever recorded."""
        sums = (
            "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0),"
            " COALESCE(SUM(price_usd), 0.0),"
            " COALESCE(SUM(outcome = ? AND (prompt_tokens IS NULL OR completion_tokens IS NULL)), 0),"
            " COALESCE(SUM(outcome = ? AND price_usd IS NULL), 0) FROM attempts"
        )

        def read(db: sqlite3.Connection) -> Usage:
            outcomes = dict(db.execute("SELECT outcome, COUNT(*) FROM attempts GROUP BY outcome").fetchall())
            row: tuple[int, int, float, int, int] = db.execute(sums, (ANSWERED, ANSWERED)).fetchone()
            answers = db.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
            return Usage(sum(outcomes.values()), answers, *row, MappingProxyType(outcomes))

        return self._read(read)

    def spent(self) -> Spent:
        """What a budget counts so far, reservations included."""
        return Spent(*self._read(lambda db: db.execute("SELECT requests, tokens, usd FROM account").fetchone()))

    def prices(self) -> list[tuple[str, Price]]:
        """The models' keys, the prices that were counted with, and where those came from."""
        query = "SELECT model, input_per_million, output_per_million, source FROM prices ORDER BY 1, 2, 3, 4"
        return [(row[0], Price(*row[1:])) for row in self._read(lambda db: db.execute(query).fetchall())]

    def request(self, key: str) -> Request | None:
        """The request under ``key``, or None if nothing was ever sent for it."""
        query = "SELECT key, model, body FROM requests WHERE key = ?"
        row = self._read(lambda db: db.execute(query, (key,)).fetchone())
        return None if row is None else Request(*row)

    def asked(self) -> Mapping[str, list[tuple[Request, Answer | None]]]:
        """By the id of a record: what was asked about it, in the order of the answers (none first), and those."""
        query = (
            "SELECT id, key, model, body FROM asked JOIN requests USING (key) LEFT JOIN answers USING (key)"
            " ORDER BY id, answered_at, key"
        )
        rows = self._read(lambda db: db.execute(query).fetchall())
        answers = self.answers({row[1] for row in rows})
        found: dict[str, list[tuple[Request, Answer | None]]] = {}
        for id_, *parts in rows:
            found.setdefault(id_, []).append((Request(*parts), answers.get(parts[0])))
        return found

    def copy_to(self, path: Path) -> None:
        """Write a copy of the whole ledger, as it stands now, to a file that is not there yet."""
        with storage_errors(path):
            other = sqlite3.connect(path)
            try:
                self._read(lambda db: db.backup(other))
            finally:
                other.close()

    # ---- writing: every method has its effect on disk when its future is done -----------------------------------

    async def open(self, keys: Sequence[str], ids: Sequence[str] = ()) -> Opened:
        """Look keys up, and claim those that nobody has answered or is asking for (this owner included).

        ``ids`` are the ids of the records that the keys are asked for, one for each key, or none.
        """
        answers = self.answers(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in answers]
        if not missing:
            return Opened(answers, frozenset(), frozenset())
        asked = list(dict.fromkeys((id_, key) for id_, key in zip(ids, keys, strict=False) if key not in answers))
        late, claimed = await self._submit(lambda transaction: self._claim(transaction, missing, asked))
        return Opened(answers | late, frozenset(claimed), frozenset(missing) - frozenset(claimed) - late.keys())

    def record(self, request: Request, answer: Answer, reserved: Reservation | None = None) -> asyncio.Future[Answer]:
        """Keep an answer and the attempt that brought it, settle its reservation, and give up the claim.

        The future's result is the answer that the ledger holds: an earlier one, if another process was faster.
        """
        now = self._clock()
        tokens = (answer.prompt_tokens, answer.completion_tokens, answer.price_usd)
        details = orjson.dumps(dict(answer.details)).decode() if answer.details else "{}"
        counts = (answer.attempts, answer.latency_s, details, now)
        row = (request.key, answer.text, answer.finish_reason, *tokens, *counts)
        attempt = Attempt(ANSWERED, "", *tokens, answer.latency_s)
        return self._submit(Kept(request, attempt, now, answer, row, reserved))

    def record_failure(
        self, request: Request, attempt: Attempt, reserved: Reservation | None = None
    ) -> asyncio.Future[None]:
        """Keep an attempt that brought no answer. The claim stays: give it up with :meth:`release`."""
        return self._submit(Kept(request, attempt, self._clock(), reserved=reserved))

    def sent(self, key: str, worst: Reservation) -> None:
        """Note that a request leaves which has no reservation; should it be cut off, it is charged at this worst case.

        Not synced: it outlasts the process, not the machine.
        """
        self._writer.sent(key, worst)

    def release(self, keys: Sequence[str]) -> asyncio.Future[None]:
        """Give up this owner's claims on the keys, so that others may ask."""

        def write(transaction: Transaction) -> None:
            for marks, some in key_chunks(keys):
                transaction.db.execute(f"DELETE FROM claims WHERE owner = ? AND key IN ({marks})", [self.owner, *some])

        return self._submit(write)

    def reserve(self, key: str, worst: Reservation, budget: Budget) -> asyncio.Future[Reservation | bool]:
        """Reserve a request's worst case; the result is as of :meth:`lm_mixup.ledger.budget.Account.reserve`."""

        def write(transaction: Transaction) -> Reservation | bool:
            self._register(transaction)
            return transaction.account.reserve(worst, budget, self.owner, key)

        return self._submit(write)

    def refund(self, reserved: Reservation) -> asyncio.Future[None]:
        """Give back what was reserved for a request that was never sent."""
        return self._submit(lambda transaction: transaction.account.refund(reserved))

    def note_price(self, model: str, price: Price) -> asyncio.Future[None]:
        """Keep which price a model's answers are counted with, and where it comes from."""
        row = (model, price.input_per_million, price.output_per_million, price.source)
        return self._submit(lambda transaction: insert(transaction.db, "INSERT OR IGNORE INTO prices", [row]))

    # ---- inside ------------------------------------------------------------------------------------------------

    def _connect(self, *, create: bool = False) -> sqlite3.Connection:
        with storage_errors(self.path):
            db = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False)
            try:
                if create:
                    prepare(db, self.path)
                db.execute("PRAGMA synchronous = FULL")
                db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                db.execute(f"PRAGMA cache_size = {-_CACHE_KB}")
            except BaseException:
                db.close()
                raise
        return db

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        with self._reader_lock, storage_errors(self.path):
            return read(self._reader)

    def _submit(self, write: Kept | Write) -> asyncio.Future[Any]:
        return self._writer.submit(write)

    def _keep_alive(self, db: sqlite3.Connection) -> bool:
        if self._registered:
            db.execute("UPDATE owners SET seen_at = ? WHERE owner = ?", (self._clock(), self.owner))
        return self._registered

    def _leave(self, transaction: Transaction) -> None:
        self._bury(transaction, self.owner, self._clock())

    def _way_of(self, owner: str) -> Path:
        """Where an owner's files are, of what it has on its way."""
        return self.path.with_name(f"{self.path.name}-underway-{owner.rpartition(':')[2]}")

    def _register(self, transaction: Transaction) -> None:
        host, pid, _ = self.owner.rsplit(":", 2)
        row = (self.owner, host, int(pid), self._clock())
        transaction.db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?)", row)
        if not self._registered:
            self._registered = True
            self._bury_the_dead(transaction, row[3])

    def _claim(
        self, transaction: Transaction, keys: list[str], asked: Sequence[tuple[str, str]]
    ) -> tuple[dict[str, Answer], list[str]]:
        """Answers that came meanwhile, and the keys that are this owner's from now on."""
        db = transaction.db
        self._register(transaction)
        self._bury_the_dead(transaction, self._clock())
        answers = select_answers(db, keys)
        held = {
            key
            for marks, some in key_chunks(keys)
            for (key,) in db.execute(f"SELECT key FROM claims WHERE key IN ({marks})", some)
        }
        claimed = [key for key in keys if key not in answers and key not in held]
        insert(db, "INSERT INTO claims", [(key, self.owner) for key in claimed])
        insert(db, "INSERT OR IGNORE INTO asked", asked)
        return answers, claimed

    def _bury_the_dead(self, transaction: Transaction, now: float) -> None:
        """Drop the claims of owners that are silent for long, or whose process on this machine is gone."""
        db = transaction.db
        host = self.owner.rsplit(":", 2)[0]
        for owner, its_host, pid, seen_at in db.execute("SELECT owner, host, pid, seen_at FROM owners").fetchall():
            if owner != self.owner and (
                now - seen_at > self._stale_after_s or (its_host == host and not _process_lives(pid))
            ):
                self._bury(transaction, owner, now)
        db.execute("DELETE FROM claims WHERE owner NOT IN (SELECT owner FROM owners)")

    def _bury(self, transaction: Transaction, owner: str, now: float) -> None:
        """Take an owner out: what had come in is kept, what was on its way becomes attempts that were cut off.

        Those are charged at their worst case, as far as they are not yet, by a reservation.
        """
        db, own = transaction.db, owner == self.owner
        left = self._under_way.left() if own else left_by(self._way_of(owner))
        keep(transaction, [kept for kept in left.ended if not _is_kept(db, kept)])
        transaction.afterwards.append(self._under_way.remove if own else lambda: remove(self._way_of(owner)))
        for _, tokens, usd in left.open:
            transaction.account.add(1, tokens, usd)
        reserved = db.execute("SELECT key, tokens, usd FROM reservations WHERE owner = ?", (owner,)).fetchall()
        cut_off = [*left.open, *reserved]
        rows = [(key, LOST, "", None, None, None, tokens, usd, 0.0, now) for key, tokens, usd in cut_off]
        insert(db, f"INSERT INTO attempts ({ATTEMPT_COLUMNS})", rows)
        for table in ("reservations", "claims", "owners"):
            db.execute(f"DELETE FROM {table} WHERE owner = ?", (owner,))


def _is_kept(db: sqlite3.Connection, kept: Kept) -> bool:
    """Whether an attempt that a process left in its files had reached the ledger before."""
    key, when = kept.request.key, kept.ended_at
    if kept.answer is None:
        query = "SELECT 1 FROM attempts WHERE key = ? AND outcome != 'answer' AND ended_at = ?"
        return db.execute(query, (key, when)).fetchone() is not None
    row = db.execute("SELECT answered_at FROM answers WHERE key = ?", (key,)).fetchone()
    if row is None or row[0] == when:
        return row is not None
    # somebody else was faster: the answer is theirs, the attempt may be kept all the same
    return db.execute("SELECT 1 FROM attempts WHERE key = ? AND ended_at = ?", (key, when)).fetchone() is not None


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # where there is a /proc: one that was killed stays in the table until its parent looks
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in (b"Z", b"X")
