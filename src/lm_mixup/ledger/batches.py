"""What was handed to providers' batch endpoints, so that it can be fetched days later, by another process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_mixup.ledger.budget import Reservation
from lm_mixup.ledger.entries import Request
from lm_mixup.ledger.tables import insert, key_chunks
from lm_mixup.ledger.writer import Transaction, Write

OPEN, DONE = "open", "done"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch at a provider. ``token`` is ours, written down before anything is sent; ``id`` is the provider's.

    ``id`` is None where the process ended between the two: the provider's list of batches tells, by the token.
    """

    token: str
    id: str | None
    model: str
    endpoint: str


class BatchBook:
    """The tables ``batches`` and ``batch_items`` of a ledger."""

    def __init__(
        self,
        submit: Callable[[Write], asyncio.Future[Any]],
        read: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        clock: Callable[[], float],
    ) -> None:
        self._submit = submit
        self._read = read
        self._clock = clock

    def open(self, model: str, endpoint: str) -> list[Batch]:
        """The batches of this model at this endpoint that are not fetched yet, the oldest first."""
        query = (
            "SELECT token, id, model, endpoint FROM batches WHERE model = ? AND endpoint = ? AND state = ?"
            " ORDER BY submitted_at, token"
        )
        rows = self._read(lambda db: db.execute(query, (model, endpoint, OPEN)).fetchall())
        return [Batch(*row) for row in rows]

    def items(self, token: str) -> dict[str, Reservation]:
        """The keys of a batch, each with its worst case."""
        query = "SELECT key, tokens, usd, reservation FROM batch_items WHERE token = ? ORDER BY key"
        rows = self._read(lambda db: db.execute(query, (token,)).fetchall())
        return {key: Reservation(tokens, usd, id_) for key, tokens, usd, id_ in rows}

    def under_way(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are in a batch which is not fetched yet."""
        query = "SELECT key FROM batch_items JOIN batches USING (token) WHERE state = ? AND key IN "

        def read(db: sqlite3.Connection) -> set[str]:
            parts = key_chunks(keys)
            return {key for marks, some in parts for (key,) in db.execute(f"{query} ({marks})", [OPEN, *some])}

        found: set[str] = self._read(read)
        return found

    def begin(self, batch: Batch, items: Sequence[tuple[Request, Reservation]]) -> asyncio.Future[None]:
        """Write down that a batch is about to be handed over.

        Its reservations are the batch's from now on, not this process's: they stand while it is at the provider. What
        was not reserved, for there was no cap, is reserved now: a later run may set one.
        """
        row = (batch.token, None, batch.model, batch.endpoint, OPEN, self._clock())

        def write(transaction: Transaction) -> None:
            insert(transaction.db, "INSERT INTO batches", [row])
            requests = [(request.key, request.model, request.body) for request, _ in items]
            insert(transaction.db, "INSERT OR IGNORE INTO requests", requests)
            kept = [
                (request.key, transaction.account.hand_over(worst, batch.token, request.key))
                for request, worst in items
            ]
            rows = [(batch.token, key, worst.tokens, worst.usd, worst.id) for key, worst in kept]
            insert(transaction.db, "INSERT INTO batch_items", rows)

        return self._submit(write)

    def handed_over(self, token: str, id_: str) -> asyncio.Future[None]:
        """Write down the provider's id of a batch."""
        return self._submit(
            lambda transaction: transaction.db.execute("UPDATE batches SET id = ? WHERE token = ?", (id_, token))
        )

    def finish(self, token: str) -> asyncio.Future[None]:
        """Write down that everything of a batch was fetched, or that it never came to be."""
        return self._submit(
            lambda transaction: transaction.db.execute("UPDATE batches SET state = ? WHERE token = ?", (DONE, token))
        )
