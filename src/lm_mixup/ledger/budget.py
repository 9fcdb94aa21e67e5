"""Caps on what a ledger may cost, kept before anything is sent.

Whoever is about to send a request reserves its worst case first; the reservation is on disk before the request leaves.
It is granted only while everything that was ever spent, everything that is on its way, and the new worst case stay
within the caps together, in one transaction, whichever process asks. An answer turns its reservation into what it
really cost. A request that was refused costs nothing but its count; one whose answer was cut off on the way (a timeout,
a broken connection, a killed process) stays charged at its worst case, for nobody can know.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_mixup.errors import BudgetError, InputError, RunError

if TYPE_CHECKING:
    from lm_mixup.ledger.ledger import Ledger

TEMPLATE_TOKENS = 64
"""Room for what a chat template adds to a prompt, above the bytes of the JSON around the messages."""

_SLACK_USD = 1e-9  # sums of floats
_ASK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens. ``source`` says who says so."""

    input_per_million: float
    output_per_million: float
    source: str = "given"

    def usd(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """The price of one answer, None where the tokens are not known."""
        if prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million) / 1e6


@dataclass(frozen=True, slots=True)
class Budget:
    """Caps over the whole life of a ledger; None: no cap. ``max_usd`` in US dollars."""

    max_usd: float | None = None
    max_tokens: int | None = None
    max_requests: int | None = None

    def __bool__(self) -> bool:
        return any(cap is not None for cap in (self.max_usd, self.max_tokens, self.max_requests))

    def allows(self, requests: int, tokens: int, usd: float) -> bool:
        """Whether so much in all is within the caps."""
        return (
            (self.max_requests is None or requests <= self.max_requests)
            and (self.max_tokens is None or tokens <= self.max_tokens)
            and (self.max_usd is None or usd <= self.max_usd + _SLACK_USD)
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a budget counts: requests sent, tokens in and out, US dollars; unknown worst cases at what was reserved.

    ``usd`` counts only what has a known price.
    """

    requests: int
    tokens: int
    usd: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """The worst case of one request: tokens in and out, and their price (None: unknown).

    ``id`` is its row in the ledger, None where there is no cap and nothing was reserved.
    """

    tokens: int
    usd: float | None
    id: int | None = None


class Account:
    """The one row of ``account`` within a transaction: read when it is first needed, written back once."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._delta = [0, 0, 0.0]

    def spent(self) -> Spent:
        """What is spent and reserved, this transaction's changes included."""
        requests, tokens, usd = self._db.execute("SELECT requests, tokens, usd FROM account").fetchone()
        return Spent(requests + int(self._delta[0]), tokens + int(self._delta[1]), usd + self._delta[2])

    def add(self, requests: int, tokens: int, usd: float | None) -> None:
        """Charge, or with numbers below zero give back."""
        self._delta[0] += requests
        self._delta[1] += tokens
        self._delta[2] += usd or 0.0

    def settle(
        self, reserved: Reservation | None, prompt_tokens: int | None, completion_tokens: int | None, usd: float | None
    ) -> tuple[int, float | None]:
        """Charge an answer: what it cost where the server said so, else its worst case. Returns the charge."""
        if prompt_tokens is None or completion_tokens is None:
            tokens = reserved.tokens if reserved else (prompt_tokens or 0) + (completion_tokens or 0)
            usd = usd if usd is not None or reserved is None else reserved.usd
        else:
            tokens = prompt_tokens + completion_tokens
        self._replace(reserved, tokens, usd)
        return tokens, usd

    def fail(self, reserved: Reservation | None, billed: bool) -> tuple[int, float | None]:
        """Charge a failure: its worst case if the server may have worked, else nothing. Returns the charge."""
        charge = (reserved.tokens, reserved.usd) if reserved and billed else (0, 0.0)
        self._replace(reserved, *charge)
        return charge

    def reserve(self, reserved: Reservation, budget: Budget, owner: str, key: str) -> Reservation | bool:
        """The reservation as granted; True if it may be granted later, False if it never can under these caps."""
        spent = self.spent()
        usd = reserved.usd or 0.0
        if not budget.allows(spent.requests + 1, spent.tokens + reserved.tokens, spent.usd + usd):
            own, tokens, dollars = self._db.execute(
                "SELECT COALESCE(SUM(owner = ?), 0), COALESCE(SUM(tokens), 0), COALESCE(SUM(usd), 0.0)"
                " FROM reservations",
                (owner,),
            ).fetchone()
            without = (spent.requests + 1, spent.tokens - tokens + reserved.tokens, spent.usd - dollars + usd)
            return bool(own) or budget.allows(*without)
        return self._reserve(reserved, owner, key)

    def _reserve(self, reserved: Reservation, owner: str, key: str) -> Reservation:
        self.add(1, reserved.tokens, reserved.usd)
        row = (owner, key, reserved.tokens, reserved.usd)
        done = self._db.execute("INSERT INTO reservations (owner, key, tokens, usd) VALUES (?, ?, ?, ?)", row)
        return Reservation(reserved.tokens, reserved.usd, done.lastrowid)

    def hand_over(self, reserved: Reservation, owner: str, key: str) -> Reservation:
        """The reservation as ``owner``'s; one that is not in the ledger yet is made, whatever the caps."""
        if reserved.id is None:
            return self._reserve(reserved, owner, key)
        self._db.execute("UPDATE reservations SET owner = ? WHERE id = ?", (owner, reserved.id))
        return reserved

    def refund(self, reserved: Reservation) -> None:
        """Give back what was reserved for a request that was never sent."""
        if self._take_out(reserved):
            self.add(-1, -reserved.tokens, -(reserved.usd or 0.0))

    def save(self) -> None:
        """Write the row back, if it changed."""
        if any(self._delta):
            self._db.execute(
                "UPDATE account SET requests = requests + ?, tokens = tokens + ?, usd = usd + ?", self._delta
            )
        self._delta = [0, 0, 0.0]

    def _replace(self, reserved: Reservation | None, tokens: int, usd: float | None) -> None:
        """Charge what a request came to; its reservation, if it still stands, goes."""
        if self._take_out(reserved) and reserved is not None:
            self.add(0, tokens - reserved.tokens, (usd or 0.0) - (reserved.usd or 0.0))
        else:
            self.add(1, tokens, usd)

    def _take_out(self, reserved: Reservation | None) -> bool:
        if reserved is None or reserved.id is None:
            return False
        return self._db.execute("DELETE FROM reservations WHERE id = ?", (reserved.id,)).rowcount > 0


class Purse:
    """Pays for the requests to one model: knows its price, and reserves where there are caps.

    Raises :class:`InputError` where ``budget`` has a cap in dollars and the price is not known, or where there is a cap
    and no ledger to keep the account.
    """

    def __init__(self, model: str, *, ledger: Ledger | None, budget: Budget, price: Price | None) -> None:
        if budget and ledger is None:
            raise InputError("a budget needs a ledger, which keeps the account")
        if budget.max_usd is not None and price is None:
            raise InputError(
                f"a cap in dollars needs a price, and that of {model!r} is not known: give llm.price_in and "
                'llm.price_out (US dollars per million tokens), pip install "lm-mixup[prices]" for public list prices, '
                "or cap --max-tokens instead"
            )
        if ledger is not None and budget.max_usd is not None and (unpriced := ledger.usage().unknown_price):
            raise InputError(
                f"{ledger.path}: {unpriced} earlier answers have no known price, so that a cap in dollars cannot be "
                "kept; cap --max-tokens instead, or use a new run folder"
            )
        self.price = price
        self._ledger = ledger
        self._budget = budget
        self._capped = ledger is not None and bool(budget)
        self._turn = asyncio.Lock()
        self._noted = price is None or ledger is None
        self._model = model

    @property
    def waits(self) -> bool:
        """Whether :meth:`reserve` waits for the ledger every time, for there are caps."""
        return self._capped

    async def reserve(self, key: str, prompt_tokens: int, completion_tokens: int) -> Reservation:
        """Make sure that a request of at most so many tokens is paid for; waits while others may give back.

        Raises :class:`BudgetError` once it cannot be: then nothing of this process is on its way any more.
        """
        worst = self._worst(prompt_tokens, completion_tokens)
        if self._noted and not self._capped:
            return worst
        got = await self._try(key, worst)
        if not isinstance(got, Reservation):
            async with self._turn:  # those who were refused ask again one at a time
                while not isinstance(got := await self._try(key, worst), Reservation):
                    if not got:
                        raise self._exhausted(worst)
                    await asyncio.sleep(_ASK_AGAIN_S)
        return got

    async def reserve_now(self, key: str, prompt_tokens: int, completion_tokens: int) -> Reservation | BudgetError:
        """The same without waiting: the error, not raised, where a cap stands in the way at this moment."""
        worst = self._worst(prompt_tokens, completion_tokens)
        got = await self._try(key, worst)
        return got if isinstance(got, Reservation) else self._exhausted(worst)

    def leaves(self, key: str, reserved: Reservation) -> None:
        """A request is about to be sent. Where nothing was reserved, that is noted in the ledger for the account."""
        if self._ledger is not None and reserved.id is None:
            self._ledger.sent(key, reserved)

    def price_of(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """What an answer costs, in US dollars; None where the price or the tokens are not known."""
        return self.price.usd(prompt_tokens, completion_tokens) if self.price else None

    def give_back(self, reserved: Reservation) -> None:
        """Give back a reservation whose request was never sent."""
        if self._ledger is not None and reserved.id is not None:
            with contextlib.suppress(RunError):  # the ledger is closed: it stays charged, which is the safe side
                self._ledger.refund(reserved)

    def _worst(self, prompt_tokens: int, completion_tokens: int) -> Reservation:
        return Reservation(prompt_tokens + completion_tokens, self.price_of(prompt_tokens, completion_tokens))

    async def _try(self, key: str, worst: Reservation) -> Reservation | bool:
        ledger = self._ledger
        if not self._noted and self.price is not None and ledger is not None:
            self._noted = True
            await ledger.note_price(self._model, self.price)
        if ledger is None or not self._capped:
            return worst
        asked = ledger.reserve(key, worst, self._budget)
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back_late)  # it may be granted yet, to nobody
            raise

    def _give_back_late(self, asked: asyncio.Future[Reservation | bool]) -> None:
        if not asked.cancelled() and not asked.exception() and isinstance(got := asked.result(), Reservation):
            self.give_back(got)

    def _exhausted(self, worst: Reservation) -> BudgetError:
        assert self._ledger is not None
        spent, budget = self._ledger.spent(), self._budget
        caps = {"--max-requests": (budget.max_requests, spent.requests, 1)}
        caps["--max-tokens"] = (budget.max_tokens, spent.tokens, worst.tokens)
        told = [
            f"{name} {cap:,}: {used:,} spent, and the next request may take {more:,}"
            for name, (cap, used, more) in caps.items()
            if cap is not None and used + more > cap
        ]
        if budget.max_usd is not None and spent.usd + (worst.usd or 0.0) > budget.max_usd + _SLACK_USD:
            told.append(
                f"--max-usd {budget.max_usd:g}: ${spent.usd:.4f} spent, "
                f"and the next request may cost ${worst.usd or 0.0:.4f}"
            )
        return BudgetError(
            f"the budget is used up ({'; '.join(told)}); every answer is kept in {self._ledger.path}: "
            "the same command with a higher cap goes on"
        )
