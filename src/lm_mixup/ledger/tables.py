"""The form of a ledger's file, its version, and reading and writing rows in bulk.

Tables: ``requests`` (what was asked), ``asked`` (for which record), ``answers`` (complete ones only), ``attempts`` (one
row for every request that was sent, with its outcome, tokens and price), ``claims`` and ``owners`` (who is asking),
``account`` (one row: what was spent), ``reservations`` (the worst case of what is on its way), ``prices`` (what prices
were counted with, and where they came from), ``batches`` and ``batch_items`` (what was handed to a provider's batch
endpoint). A NULL price is an unknown price.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from lm_mixup.errors import RunError, StorageError
from lm_mixup.ledger.entries import Answer

VERSION = 2
"""Of the tables; kept in SQLite's ``user_version``."""

_MAGIC = 0x4C4D4D58  # "LMMX", kept in SQLite's application_id: another program's file is not taken for a ledger

_TABLES = """
CREATE TABLE requests (key TEXT PRIMARY KEY, model TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE asked (id TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (id, key)) WITHOUT ROWID;
CREATE TABLE answers (
  key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER,
  completion_tokens INTEGER, price_usd REAL, attempts INTEGER NOT NULL, latency_s REAL NOT NULL,
  details TEXT NOT NULL, answered_at REAL NOT NULL);
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, prompt_tokens INTEGER,
  completion_tokens INTEGER, price_usd REAL, charged_tokens INTEGER NOT NULL, charged_usd REAL,
  latency_s REAL NOT NULL, ended_at REAL NOT NULL);
CREATE TABLE owners (owner TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, seen_at REAL NOT NULL);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE account (requests INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL);
INSERT INTO account VALUES (0, 0, 0.0);
CREATE TABLE reservations (
  id INTEGER PRIMARY KEY, owner TEXT NOT NULL, key TEXT NOT NULL, tokens INTEGER NOT NULL, usd REAL);
CREATE TABLE prices (
  model TEXT NOT NULL, input_per_million REAL NOT NULL, output_per_million REAL NOT NULL, source TEXT NOT NULL,
  PRIMARY KEY (model, input_per_million, output_per_million, source)) WITHOUT ROWID;
CREATE TABLE batches (
  token TEXT PRIMARY KEY, id TEXT, model TEXT NOT NULL, endpoint TEXT NOT NULL, state TEXT NOT NULL,
  submitted_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE batch_items (
  token TEXT NOT NULL, key TEXT NOT NULL, tokens INTEGER NOT NULL, usd REAL, reservation INTEGER,
  PRIMARY KEY (token, key)) WITHOUT ROWID;
CREATE INDEX failed_attempts ON attempts (key) WHERE outcome != 'answer';
"""

ANSWER_COLUMNS = "text, finish_reason, prompt_tokens, completion_tokens, price_usd, attempts, latency_s, details"
ATTEMPT_COLUMNS = (
    "key, outcome, detail, prompt_tokens, completion_tokens, price_usd, charged_tokens, charged_usd,"
    " latency_s, ended_at"
)
_KEYS_PER_QUERY = 500


def prepare(db: sqlite3.Connection, path: Path) -> None:
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
    within = db.in_transaction
    if not within:
        db.execute("BEGIN")  # one view of the file: another process may be making the tables at this moment
    try:
        magic = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    finally:
        if not within and db.in_transaction:
            db.execute("ROLLBACK")
    if (magic, version) == (_MAGIC, VERSION):
        return False
    if magic == _MAGIC or tables:
        found = f"version {version}" if magic == _MAGIC else "another program's SQLite file"
        raise RunError(
            f"{path}: expected a ledger of version {VERSION}, got {found}; "
            "move it away, or use the lm-mixup version that wrote it"
        )
    return True


def insert(db: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows by statements of many rows each: a statement a row costs a thread switch a row.

    ``into`` is what stands before VALUES. The statements' sizes are powers of two, so that few are ever prepared.
    """
    start = 0
    while start < len(rows):
        size = 1 << min(6, (len(rows) - start).bit_length() - 1)
        some = rows[start : start + size]
        marks = ",".join(["(" + ",".join("?" * len(some[0])) + ")"] * size)
        db.execute(f"{into} VALUES {marks}", [value for row in some for value in row])
        start += size


def key_chunks(keys: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Keys in parts that one statement can name, each with its question marks."""
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        yield ",".join("?" * len(some)), some


def select_answers(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Answer]:
    """The answers that are there, by key."""
    found: dict[str, Answer] = {}
    for marks, some in key_chunks(keys):
        for row in db.execute(f"SELECT key, {ANSWER_COLUMNS} FROM answers WHERE key IN ({marks})", some):
            found[row[0]] = answer_of(row[1:])
    return found


def answer_of(row: Sequence[Any]) -> Answer:
    """The answer in a row of :data:`ANSWER_COLUMNS`."""
    text, finish_reason, prompt_tokens, completion_tokens, price_usd, attempts, latency_s, details = row
    told = MappingProxyType(orjson.loads(details))
    return Answer(text, finish_reason, prompt_tokens, completion_tokens, price_usd, attempts, latency_s, told)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
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
