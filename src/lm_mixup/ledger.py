"""The ledger: every request to a language model and its answer, exactly once, in one SQLite file.

A request's key is the content hash of the model, the messages, the sampling settings and the schema
(:class:`Request`). An answer that reached the ledger is never asked for again, whoever asks: a later run, another
stage, or another process on the same file. Attempts that failed are kept for the account and never served.

Writing is done by one thread in groups (a commit with ``synchronous=FULL`` at most ``commit_interval_s`` after the
first write of the group), so that thousands of answers a second cost few syncs; a write's future is done when
its group is on disk. Reading uses a connection of its own. Several processes may share the file: whoever is about to
ask *claims* the keys, and a claim falls when its owner is done, dead, or silent for ``stale_after_s``.

Tables: ``requests`` (what was asked), ``answers`` (complete ones only), ``attempts`` (one row for every request that
was sent, with its outcome, tokens and price), ``claims`` and ``owners``. A NULL price is an unknown price.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import orjson

from lm_mixup.errors import RunError, StorageError
from lm_mixup.ports import Prompt

VERSION = 1
"""Of the tables; kept in SQLite's ``user_version``."""

_MAGIC = 0x4C4D4D58  # "LMMX", kept in SQLite's application_id: another program's file is not taken for a ledger

_TABLES = """
CREATE TABLE requests (key TEXT PRIMARY KEY, model TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE answers (
  key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER,
  completion_tokens INTEGER, price_usd REAL, attempts INTEGER NOT NULL, latency_s REAL NOT NULL,
  details TEXT NOT NULL, answered_at REAL NOT NULL);
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, prompt_tokens INTEGER,
  completion_tokens INTEGER, price_usd REAL, latency_s REAL NOT NULL, ended_at REAL NOT NULL);
CREATE TABLE owners (owner TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, seen_at REAL NOT NULL);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
"""

ANSWERED = "answer"
"""The outcome of an attempt that brought an answer; every other outcome names a kind of failure."""

_ANSWER_COLUMNS = "text, finish_reason, prompt_tokens, completion_tokens, price_usd, attempts, latency_s, details"
_INSERT_ATTEMPT = (
    "INSERT INTO attempts (key, outcome, detail, prompt_tokens, completion_tokens, price_usd, latency_s, ended_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: its ``key`` (32 hex digits), the model's key, and everything else as canonical JSON."""

    key: str
    model: str
    body: str

    @classmethod
    def of(cls, model: str, prompt: Prompt) -> Self:
        """The request that ``prompt`` is to the model with the key ``model``. The prompt's id is no part of it."""
        asked = {
            "messages": [dict(message) for message in prompt.messages],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "repetition_penalty": prompt.repetition_penalty,
            "stop": list(prompt.stop),
            "seed": prompt.seed,
            "schema": prompt.schema if prompt.schema is None else dict(prompt.schema),
        }
        body = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        hashed = hashlib.blake2b(body, key=hashlib.blake2b(model.encode()).digest(), digest_size=16)
        return cls(hashed.hexdigest(), model, body.decode())


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Tokens are None where the server did not say, the price (US dollars) where it is unknown.

    ``attempts`` is how many requests were sent for it, the good one included; ``latency_s`` the good one's seconds.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    price_usd: float | None = None
    attempts: int = 1
    latency_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was sent. ``outcome`` is :data:`ANSWERED` or a kind of failure such as ``http-429``.

    ``detail`` holds no secret: whoever records an attempt has taken keys and addresses out.
    """

    outcome: str
    detail: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    price_usd: float | None = None
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of keys that were opened: answered before, claimed by the caller now, or held by another owner."""

    answers: Mapping[str, Answer]
    claimed: frozenset[str]
    held: frozenset[str]


@dataclass(frozen=True, slots=True)
class Usage:
    """The account of a ledger: sums over what is known.

    ``unknown_tokens`` and ``unknown_price`` count the attempts that brought an answer without them.
    """

    attempts: int
    answers: int
    prompt_tokens: int
    completion_tokens: int
    price_usd: float
    unknown_tokens: int
    unknown_price: int
    outcomes: Mapping[str, int]


_Write = Callable[[sqlite3.Connection], Any]


class Ledger:
    """The ledger in the file ``path``, made if it is not there. Safe for threads, event loops and processes.

    ``commit_interval_s`` (at most 0.05) bounds how long a finished answer can wait for the disk. ``busy_timeout_s``
    is how long to wait for another process that writes. ``clock`` gives the seconds since the epoch.

    Raises :class:`RunError` where the file is no ledger of this version, :class:`StorageError` where it cannot be
    written; the same from every method and future, once the disk is full. What was committed before stays whole.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        commit_interval_s: float = 0.02,
        busy_timeout_s: float = 60.0,
        stale_after_s: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= commit_interval_s <= 0.05:
            raise ValueError(f"commit_interval_s: expected 0 to 0.05, got {commit_interval_s}")
        self.path = Path(path)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._commit_interval_s = commit_interval_s
        self._busy_timeout_s = busy_timeout_s
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._reader = self._connect(create=True)
        self._reader_lock = threading.Lock()
        self._queue: list[tuple[_Write, asyncio.Future[Any]]] = []
        self._wake = threading.Condition()
        self._closing = False
        self._registered = False  # writer thread only: whether this owner has claims to keep alive
        self._writer = threading.Thread(target=self._write_groups, name=f"ledger {self.path.name}", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting, give up all claims, and close the file. May be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._writer.join()
        with self._reader_lock:
            self._reader.close()

    # ---- reading -----------------------------------------------------------------------------------------------

    def get(self, key: str) -> Answer | None:
        """The answer under ``key``, or None."""
        return self.answers([key]).get(key)

    def answers(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, by key."""
        with self._reader_lock, _storage_errors(self.path):
            return _select_answers(self._reader, list(keys))

    def usage(self) -> Usage:
        """Sums over all attempts that were ever recorded."""
        with self._reader_lock, _storage_errors(self.path):
            outcomes = dict(self._reader.execute("SELECT outcome, COUNT(*) FROM attempts GROUP BY outcome").fetchall())
            row = self._reader.execute(
                "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0),"
                " COALESCE(SUM(price_usd), 0.0),"
                " COALESCE(SUM(outcome = ? AND (prompt_tokens IS NULL OR completion_tokens IS NULL)), 0),"
                " COALESCE(SUM(outcome = ? AND price_usd IS NULL), 0) FROM attempts",
                (ANSWERED, ANSWERED),
            ).fetchone()
            answers = self._reader.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
        prompt_tokens, completion_tokens, price_usd, unknown_tokens, unknown_price = row
        return Usage(
            attempts=sum(outcomes.values()),
            answers=answers,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            price_usd=price_usd,
            unknown_tokens=unknown_tokens,
            unknown_price=unknown_price,
            outcomes=MappingProxyType(outcomes),
        )

    def request(self, key: str) -> Request | None:
        """The request under ``key``, or None if nothing was ever sent for it."""
        with self._reader_lock, _storage_errors(self.path):
            row = self._reader.execute("SELECT key, model, body FROM requests WHERE key = ?", (key,)).fetchone()
        return None if row is None else Request(*row)

    # ---- writing: every method has its effect on disk when its future is done -----------------------------------

    async def open(self, keys: Sequence[str]) -> Opened:
        """Look keys up, and claim those that nobody has answered or is asking for (this owner included)."""
        answers = self.answers(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in answers]
        if not missing:
            return Opened(answers, frozenset(), frozenset())
        late, claimed = await self._submit(lambda db: self._claim(db, missing))
        return Opened(answers | late, frozenset(claimed), frozenset(missing) - frozenset(claimed) - late.keys())

    def record(self, request: Request, answer: Answer) -> asyncio.Future[Answer]:
        """Keep an answer and the attempt that brought it, and give up the claim.

        The future's result is the answer that the ledger holds: an earlier one, if another process was faster.
        """
        now = self._clock()
        tokens = (answer.prompt_tokens, answer.completion_tokens, answer.price_usd)
        row = (request.key, answer.text, answer.finish_reason, *tokens, answer.attempts, answer.latency_s)
        details = orjson.dumps(dict(answer.details)).decode()

        def write(db: sqlite3.Connection) -> Answer:
            db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?, ?)", (request.key, request.model, request.body))
            db.execute(_INSERT_ATTEMPT, (request.key, ANSWERED, "", *tokens, answer.latency_s, now))
            done = db.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, details, now)
            )
            db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (request.key, self.owner))
            return answer if done.rowcount else _select_answers(db, [request.key])[request.key]

        return self._submit(write)

    def record_failure(self, request: Request, attempt: Attempt) -> asyncio.Future[None]:
        """Keep an attempt that brought no answer. The claim stays: give it up with :meth:`release`."""
        now = self._clock()
        tokens = (attempt.prompt_tokens, attempt.completion_tokens, attempt.price_usd)
        row = (request.key, attempt.outcome, attempt.detail, *tokens, attempt.latency_s, now)

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?, ?)", (request.key, request.model, request.body))
            db.execute(_INSERT_ATTEMPT, row)

        return self._submit(write)

    def release(self, keys: Sequence[str]) -> asyncio.Future[None]:
        """Give up this owner's claims on the keys, so that others may ask."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", [(key, self.owner) for key in keys])

        return self._submit(write)

    # ---- inside ------------------------------------------------------------------------------------------------

    def _connect(self, *, create: bool = False) -> sqlite3.Connection:
        with _storage_errors(self.path):
            db = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False)
            try:
                if create:
                    _prepare(db, self.path)
                db.execute("PRAGMA synchronous = FULL")
            except BaseException:
                db.close()
                raise
        return db

    def _submit(self, write: _Write) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closing:
                raise RunError(f"{self.path}: the ledger is closed")
            self._queue.append((write, future))
            if len(self._queue) == 1:
                self._wake.notify()
        return future

    def _write_groups(self) -> None:
        """The writer thread: wait for a write, gather what comes within the interval, commit, and tell."""
        db: sqlite3.Connection | None = None
        committed_at = -self._commit_interval_s
        while True:
            with self._wake:
                if not self._queue and not self._closing:
                    self._wake.wait(self._stale_after_s / 3 if self._registered else None)
                while (rest := committed_at + self._commit_interval_s - time.monotonic()) > 0 and not self._closing:
                    self._wake.wait(rest)
                group, self._queue = self._queue, []
                closing = self._closing
            if not group and not self._registered and not closing:
                continue
            results: list[Any] = []
            error: Exception | None = None
            try:
                db = db or self._connect()
                with _storage_errors(self.path):
                    results = self._commit(db, group, closing)
            except Exception as caught:  # noqa: BLE001 boundary: the thread must live, and those who wait must hear
                error = caught
            committed_at = time.monotonic()
            _tell(group, results, error)
            if closing:
                if db is not None:
                    db.close()
                return

    def _commit(self, db: sqlite3.Connection, group: Sequence[tuple[_Write, object]], closing: bool) -> list[Any]:
        """Do the group's writes in one transaction, which is on disk when this returns."""
        db.execute("BEGIN IMMEDIATE")
        try:
            results = [write(db) for write, _ in group]
            if self._registered:
                db.execute("UPDATE owners SET seen_at = ? WHERE owner = ?", (self._clock(), self.owner))
            if closing and self._registered:
                db.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))
                db.execute("DELETE FROM owners WHERE owner = ?", (self.owner,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk may have ended it already
                db.execute("ROLLBACK")
            raise
        return results

    def _claim(self, db: sqlite3.Connection, keys: list[str]) -> tuple[dict[str, Answer], list[str]]:
        """Answers that came meanwhile, and the keys that are this owner's from now on."""
        now = self._clock()
        host, pid, _ = self.owner.rsplit(":", 2)
        db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?)", (self.owner, host, int(pid), now))
        self._registered = True
        self._bury_the_dead(db, now)
        answers = _select_answers(db, keys)
        claimed = [
            key
            for key in keys
            if key not in answers
            and db.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, self.owner)).rowcount
        ]
        return answers, claimed

    def _bury_the_dead(self, db: sqlite3.Connection, now: float) -> None:
        """Drop the claims of owners that are silent for long, or whose process on this machine is gone."""
        host = self.owner.rsplit(":", 2)[0]
        for owner, its_host, pid, seen_at in db.execute("SELECT owner, host, pid, seen_at FROM owners").fetchall():
            if owner != self.owner and (
                now - seen_at > self._stale_after_s or (its_host == host and not _process_lives(pid))
            ):
                db.execute("DELETE FROM claims WHERE owner = ?", (owner,))
                db.execute("DELETE FROM owners WHERE owner = ?", (owner,))
        db.execute("DELETE FROM claims WHERE owner NOT IN (SELECT owner FROM owners)")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; raise where an old one is no ledger of this version, and leave that as it is."""
    if not _is_new(db, path):
        return
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    try:
        if _is_new(db, path):  # nobody was faster
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_MAGIC}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    magic = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if (magic, version) == (_MAGIC, VERSION):
        return False
    if magic == _MAGIC or db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        found = f"version {version}" if magic == _MAGIC else "another program's SQLite file"
        raise RunError(
            f"{path}: expected a ledger of version {VERSION}, got {found}; "
            "move it away, or use the lm-mixup version that wrote it"
        )
    return True


def _select_answers(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(some))
        for row in db.execute(f"SELECT key, {_ANSWER_COLUMNS} FROM answers WHERE key IN ({marks})", some):
            key, text, finish_reason, prompt_tokens, completion_tokens, price_usd, attempts, latency_s, details = row
            found[key] = Answer(
                text,
                finish_reason,
                prompt_tokens,
                completion_tokens,
                price_usd,
                attempts,
                latency_s,
                MappingProxyType(orjson.loads(details)),
            )
    return found


def _tell(group: Sequence[tuple[_Write, asyncio.Future[Any]]], results: list[Any], error: Exception | None) -> None:
    """Finish the futures of a group: one wake-up for each event loop that waits."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for number, (_, future) in enumerate(group):
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


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours: a full or failing disk, a file that is none of ours, a lock held for too long."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "closed database" in text:
            raise RunError(f"{path}: the ledger is closed") from error
        if "not a database" in text or "malformed" in text:
            raise RunError(
                f"{path}: expected a ledger (SQLite), got: {text}; move the file away to start anew"
            ) from error
        raise StorageError(
            f"{path}: the ledger cannot be written or read: {text}; every answer committed so far is kept: "
            "make room (or end the process that holds the file) and run the same command again"
        ) from error
