"""How fast an endpoint may be asked: how many at a time, how many a minute, and how long to wait after a failure."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable


class Concurrency:
    """How many requests may be under way: a limit that finds its own level between 1 and ``maximum``.

    As TCP does it: it starts at ``start`` and grows by one with every answer; the first sign of congestion (429, 503,
    a timeout) ends that; from then on it grows by ``maximum / 20`` in the time that ``limit`` answers take. A sign of
    congestion cuts the limit to ``decrease`` of itself, once for all requests that were under way at that moment.
    When congestion is all that comes back (a storm), :meth:`congested` with ``pause_s`` holds every sender until then.

    Belongs to one event loop. ``clock`` gives seconds on a monotonic clock.
    """

    _STORM = 8

    def __init__(self, maximum: int, clock: Callable[[], float], *, start: int = 16, decrease: float = 0.7) -> None:
        if maximum < 1:
            raise ValueError(f"concurrency: expected at least 1, got {maximum}")
        self.maximum = maximum
        self.limit = float(min(start, maximum))
        self.under_way = 0
        self._growth = maximum / 20
        self._decrease = decrease
        self._slow_start = True
        self._cut_at = float("-inf")
        self._paused_until = float("-inf")
        self._congested_in_a_row = 0
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, *, ahead: bool = False) -> float:
        """Wait for a place; returns the time at which it was given, to be handed back with the outcome.

        ``ahead``: before all others that wait.
        """
        if self._waiting or self.under_way >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if ahead:
                self._waiting.appendleft(turn)
            else:
                self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release()  # the place had been given already: pass it on
                raise
        else:
            self.under_way += 1
        while (pause := self._paused_until - self._clock()) > 0:
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:
                self.release()
                raise
        return self._clock()

    def release(self) -> None:
        """Give a place back."""
        self.under_way -= 1
        while self._waiting and self.under_way < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)

    def hold(self, seconds: float) -> None:
        """Let nobody send for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def succeeded(self) -> None:
        """The endpoint has answered, or failed for another reason than being asked too much."""
        self._congested_in_a_row = 0
        if self.limit < self.maximum:
            self.limit = min(self.maximum, self.limit + (1.0 if self._slow_start else self._growth / self.limit))

    def congested(self, sent_at: float, pause_s: float = 0.0) -> None:
        """A request sent at ``sent_at`` met congestion. ``pause_s``: how long the server asked to be left alone."""
        now = self._clock()
        self._slow_start = False
        self._congested_in_a_row += 1
        if sent_at > self._cut_at:
            self.limit = max(1.0, self.limit * self._decrease)
            self._cut_at = now
        if self._congested_in_a_row >= min(self._STORM, self.maximum):
            self.hold(pause_s)


class Rate:
    """At most so many units a minute, spread evenly, with a burst of one second's worth (at least one unit's).

    Belongs to one event loop.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        if per_minute <= 0:
            raise ValueError(f"a rate per minute: expected more than 0, got {per_minute}")
        self._per_second = per_minute / 60
        self._clock = clock
        self._free_at = clock()

    async def take(self, units: float) -> None:
        """Wait until ``units`` may be spent, and spend them. First come, first served."""
        now = self._clock()
        self._free_at = max(self._free_at, now - 1.0) + units / self._per_second
        wait = self._free_at - units / self._per_second - now
        if wait > 0:
            await asyncio.sleep(wait)

    def correct(self, units: float) -> None:
        """Spend (or, below zero, give back) units after the fact: what was taken was an estimate."""
        self._free_at += units / self._per_second


class Backoff:
    """Seconds to wait before attempt n + 1: exponential, with jitter, never less than the server asked for.

    ``base_s`` · 2^(n−1), at most ``cap_s``, times a random factor in [0.5, 1): so many clients that failed together do
    not come back together.
    """

    def __init__(self, base_s: float = 0.5, cap_s: float = 30.0, rng: random.Random | None = None) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()

    def seconds(self, failures: int, retry_after_s: float = 0.0) -> float:
        """The wait after so many failures (from 1)."""
        ceiling = min(self._cap_s, self._base_s * 2.0 ** min(failures - 1, 30))
        return max(retry_after_s, 0.0) + ceiling * (0.5 + self._rng.random() / 2)
