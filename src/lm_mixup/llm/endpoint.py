"""The connection to an OpenAI-compatible endpoint: its address, its key, and one request over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from lm_mixup.errors import InputError
from lm_mixup.llm import loop as shared_loop
from lm_mixup.llm import openai_wire as wire
from lm_mixup.llm.openai_wire import Fault, Reply

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from lm_mixup.llm.http1 import Response
    from lm_mixup.llm.lines import Lines

_READ_BYTES = 2**18


class Endpoint:
    """The endpoint at ``base_url`` (the part before ``/chat/completions``), asked with ``api_key``.

    The key goes into the Authorization header and nowhere else. Connections are kept within :meth:`enter` and on the
    shared loop, else for one call. Raises :class:`InputError` for an address or a key that cannot be used.
    """

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.base_url = _checked_url(base_url)
        self._secret = _checked_key(api_key)
        self._host, self._port, self._encrypted, self._head = _request_head(self.base_url, self._secret)
        self._kept: Lines | None = None
        self._kept_loop: asyncio.AbstractEventLoop | None = None

    async def enter(self) -> None:
        """Open connections and keep them until :meth:`aclose`."""
        await self.aclose()
        self._kept, self._kept_loop = self._new_lines(), asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Close the connections that are kept. Must run on the loop they belong to; the next call opens new ones."""
        lines, self._kept, self._kept_loop = self._kept, None, None
        shared_loop.forget(self.aclose)
        if lines is not None:
            await lines.close()

    @contextlib.asynccontextmanager
    async def lines(self) -> AsyncIterator[Lines]:
        """The connections: kept within ``async with`` and on the shared loop, else for one call."""
        loop = asyncio.get_running_loop()
        if self._kept is not None and self._kept_loop is loop:
            yield self._kept
        elif shared_loop.is_shared(loop):
            self._kept, self._kept_loop = self._new_lines(), loop
            shared_loop.at_exit(self.aclose)
            yield self._kept
        else:
            lines = self._new_lines()
            try:
                yield lines
            finally:
                await lines.close()

    def session(self) -> aiohttp.ClientSession:
        """A session for other requests than completions, to be closed by the caller."""
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30)
        return aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar())

    def _new_lines(self) -> Lines:
        from lm_mixup.llm.lines import Lines

        # glibc gives blocks above its threshold back to the kernel at once, and the event loop reads into a new one of
        # 256 kB each time; a larger block, freed, raises that threshold
        bytearray(4 * _READ_BYTES)
        return Lines(self._host, self._port, _tls() if self._encrypted else None)

    async def ask(self, lines: Lines, body: bytes, timeout_s: float, *, stream: bool) -> Reply | Fault:
        """One request over the wire. Every way in which it can go wrong is a fault, never an exception."""
        from lm_mixup.llm.http1 import BadResponse, ConnectionLost
        from lm_mixup.llm.lines import Unreachable

        line = None
        clean = False
        events = _Events() if stream else None
        try:
            async with asyncio.timeout(timeout_s):
                line = lines.take() or await lines.open()
                request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
                response = await line.ask(request, events.feed if events else None)
            reply = self._scrubbed(_reply(response, events))
            clean = isinstance(reply, Reply) and response.reusable
            if isinstance(reply, Reply) and lines.out_of_step(line, reply.id, hash(body)):
                clean = False
                reply = Fault("stale-answer", "the connection brought the answer to an earlier request once more")
        except TimeoutError:
            kind, what = ("no-connection", "connection") if line is None else ("timeout", "answer")
            reply = Fault(kind, f"no {what} within {timeout_s:g} s", congestion=True)
        except Unreachable as error:
            reply = self._scrubbed(Fault("unreachable", str(error)))
        except BadResponse as error:
            reply = self._scrubbed(Fault("bad-body", str(error)))
        except ConnectionLost as error:
            reply = self._scrubbed(Fault("connection-lost", str(error)))
        finally:
            if line is not None:
                lines.give(line) if clean else line.abort()
        return reply

    def _scrubbed(self, reply: Reply | Fault) -> Reply | Fault:
        """The fault without the key, should the server have echoed it."""
        return replace(reply, detail=self.scrubbed(reply.detail)) if isinstance(reply, Fault) else reply

    def scrubbed(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._secret, "***") if len(self._secret) >= 4 else text


class _Events:
    """An event stream, in pieces that end anywhere, line by line."""

    def __init__(self) -> None:
        self._answer = wire.Stream()
        self._fault: Fault | None = None
        self._begun = b""
        self.seen = False

    def feed(self, piece: bytes) -> bool:
        """Take a piece; True once the answer is complete or cannot become one."""
        self.seen = True
        *lines, self._begun = (self._begun + piece).split(b"\n")
        for line in lines:
            self._fault = self._fault or self._answer.feed(line)
        return self._answer.done or self._fault is not None

    def reply(self) -> Reply | Fault:
        """What came of it, after the last piece."""
        self.feed(b"\n")
        return self._fault or self._answer.reply()


def _reply(response: Response, events: _Events | None) -> Reply | Fault:
    """What a response says."""
    if response.status != 200:
        return wire.read_error(response.status, response.body, response.headers.get("retry-after"), time.time())
    return events.reply() if events is not None and events.seen else wire.read_reply(response.body)


@functools.cache
def _tls() -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _request_head(base_url: str, secret: str) -> tuple[str, int, bool, bytes]:
    """Host, port, whether encrypted, and a request's head up to the number of its Content-Length."""
    parts = urlsplit(base_url)
    encrypted = parts.scheme == "https"
    host, usual = parts.hostname or "", 443 if encrypted else 80
    port = parts.port or usual
    try:
        name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        raise InputError(f"expected an address like http://localhost:8000/v1, got {base_url!r}") from None
    lines = [
        f"POST {quote(parts.path, safe='/%:@!$&()*+,;=~')}/chat/completions HTTP/1.1",
        f"Host: {name}" if port == usual else f"Host: {name}:{port}",
        "User-Agent: lm-mixup",
        "Accept: application/json, text/event-stream",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        *([f"Authorization: Bearer {secret}"] if secret else []),
        "Content-Length: ",
    ]
    return host, port, encrypted, "\r\n".join(lines).encode("ascii")


def _checked_key(api_key: str | None) -> str:
    key = (api_key or "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("the API key holds characters that no key has (spaces, line breaks, letters beyond ASCII)")
    return key


def _checked_url(base_url: str) -> str:
    # The address itself is not repeated where it may hold a password.
    try:
        parts = urlsplit(base_url.strip())
        has_login = parts.username is not None or parts.password is not None
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise InputError("the endpoint's address cannot be read; expected one like http://localhost:8000/v1") from None
    if has_login or parts.query or parts.fragment:
        raise InputError(
            "the endpoint's address holds a login, a query or a fragment; give the address alone "
            "(https://host/v1), and the key through the environment"
        )
    if not usable:
        raise InputError(f"expected an address like http://localhost:8000/v1, got {base_url!r}")
    return base_url.strip().rstrip("/").removesuffix("/chat/completions")
