"""Connections to an endpoint, each held by one request at a time, and what shows that one has fallen out of step.

HTTP tells which answer belongs to which request by their order on a connection, and by nothing else. A server (or a
proxy before it) that sends an answer twice makes the second copy the answer to the next request, and every answer after
it comes one too late. So a connection is held from a request to the end of its answer, is given up after anything but a
clean answer, and when an answer bears the id of one that the connection brought before.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_REMEMBERED = 4096


@dataclass(slots=True, eq=False)
class Line:
    """One connection: a session of its own."""

    number: int
    session: aiohttp.ClientSession


class Lines:
    """The connections to one endpoint; ``new`` makes a session that keeps one connection. Belongs to one event loop."""

    def __init__(self, new: Callable[[AbstractResolver], aiohttp.ClientSession]) -> None:
        self._new = new
        self._addresses = _Addresses()
        self._idle: list[Line] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._made = 0
        self._seen: dict[str, tuple[int, int]] = {}  # by answer's id: the connection's number, the request's hash
        self._ids_tell = True

    def take(self) -> Line:
        """A connection for one request: the idle one that was used last, or a new one."""
        if self._idle:
            return self._idle.pop()
        self._made += 1
        return Line(self._made, self._new(self._addresses))

    def give(self, line: Line) -> None:
        """Give a connection back whose request was answered cleanly."""
        self._idle.append(line)

    def drop(self, line: Line) -> None:
        """Give a connection up."""
        task = asyncio.create_task(line.session.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def out_of_step(self, line: Line, id_: str, request: int) -> bool:
        """Whether an answer with this id, to a request with this hash, is an earlier one of this connection once more.

        Ids that come on several connections, for several requests, are not unique with this server and tell nothing.
        """
        if not id_ or not self._ids_tell:
            return False
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        number, whose = self._seen.setdefault(id_, (line.number, request))
        if whose == request:
            return False
        self._ids_tell = number == line.number
        return self._ids_tell

    async def close(self) -> None:
        """Close all that are idle, and wait for those that were given up."""
        idle, self._idle = self._idle, []
        for line in idle:
            await line.session.close()
        await asyncio.gather(*self._closing, return_exceptions=True)


class _Addresses(AbstractResolver):
    """One look-up of a host at a time, for all connections; each connector keeps the result for a while."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._turns: dict[tuple[str, int, int], asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        key = (host, port, int(family))
        task = self._turns.get(key)
        if task is None:
            task = self._turns[key] = asyncio.create_task(self._inner.resolve(host, port, family))
            task.add_done_callback(lambda _: self._turns.pop(key, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Nothing is held."""
