"""Connections to an endpoint, each held by one request at a time, and what shows that one has fallen out of step.

HTTP tells which answer belongs to which request by their order on a connection, and by nothing else. A server (or a
proxy before it) that sends an answer twice makes the second copy the answer to the next request, and every answer after
it comes one too late. So a connection is held from a request to the end of its answer, is given up after anything but a
clean answer, when something comes unasked, and when an answer bears the id of one that the connection brought before.
"""

from __future__ import annotations

import asyncio
import ssl

from lm_mixup.llm.http1 import Connection

_REMEMBERED = 4096
_IDLE_S = 30.0  # servers close what is idle for long; a request sent at that moment would be lost
_NEXT_ADDRESS_S = 0.25  # RFC 8305: when to try a host's next address beside the first


class Unreachable(Exception):
    """No connection can be opened."""


class Lines:
    """The connections to ``host`` and ``port``, encrypted or not. Belongs to one event loop."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._address = (host, port)
        self._tls = tls
        self._idle: list[Connection] = []
        self._made = 0
        self._seen: dict[str, tuple[int, int]] = {}  # by answer's id: the connection's number, the request's hash
        self._ids_tell = True

    def take(self) -> Connection | None:
        """The idle connection that was used last, for one request; None where there is none."""
        while self._idle:
            line = self._idle.pop()
            if line.usable and asyncio.get_running_loop().time() - line.idle_since < _IDLE_S:
                return line
            line.abort()
        return None

    async def open(self) -> Connection:
        """A new connection, for one request. Raises :class:`Unreachable`."""
        self._made += 1
        line = Connection(self._made)
        host, port = self._address
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: line, host, port, ssl=self._tls, happy_eyeballs_delay=_NEXT_ADDRESS_S
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name server could know
            raise Unreachable(str(error) or type(error).__name__) from error
        return line

    def give(self, line: Connection) -> None:
        """Give a connection back whose request was answered cleanly."""
        line.idle_since = asyncio.get_running_loop().time()
        self._idle.append(line)

    def out_of_step(self, line: Connection, id_: str, request: int) -> bool:
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
        """Close all that are idle."""
        idle, self._idle = self._idle, []
        for line in idle:
            line.abort()
        await asyncio.sleep(0)  # sockets are closed by the loop's next turn
