"""The connection to an OpenAI-compatible endpoint: its address, its key, and one request over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lm_mixup.errors import InputError
from lm_mixup.llm import loop as shared_loop
from lm_mixup.llm import openai_wire as wire
from lm_mixup.llm.openai_wire import Fault, Reply

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

    from lm_mixup.llm.lines import Lines

_MAX_BODY_BYTES = 32 * 2**20
_LARGE_BODY_BYTES = 2**20  # above this, aiohttp wants a file-like body
_END_OF_STREAM_S = 0.1
_READ_BYTES = 2**18


class Endpoint:
    """The endpoint at ``base_url`` (the part before ``/chat/completions``), asked with ``api_key``.

    The key goes into the Authorization header and nowhere else. Connections are kept within :meth:`enter` and on the
    shared loop, else for one call. Raises :class:`InputError` for an address or a key that cannot be used.
    """

    def __init__(self, base_url: str, api_key: str | None, *, trust_env: bool = False) -> None:
        self.base_url = _checked_url(base_url)
        self._completions = f"{self.base_url}/chat/completions"
        self._secret = _checked_key(api_key)
        self._trust_env = trust_env
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
        return self._new_session(None)

    def _new_lines(self) -> Lines:
        from lm_mixup.llm.lines import Lines

        # glibc gives blocks above its threshold back to the kernel at once, and the event loop reads into a new one of
        # 256 kB each time; a larger block, freed, raises that threshold
        bytearray(4 * _READ_BYTES)
        return Lines(self._new_session)

    def _new_session(self, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30, resolver=resolver)
        return aiohttp.ClientSession(
            connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), trust_env=self._trust_env
        )

    async def ask(self, lines: Lines, body: bytes, timeout_s: float, *, stream: bool) -> Reply | Fault:
        """One request over the wire. Every way in which it can go wrong is a fault, never an exception."""
        line = lines.take()
        clean = False
        try:
            reply = await self._ask(line.session, body, timeout_s, stream=stream)
            clean = isinstance(reply, Reply)
            if isinstance(reply, Reply) and lines.out_of_step(line, reply.id, hash(body)):
                clean = False
                reply = Fault("stale-answer", "the connection brought the answer to an earlier request once more")
        finally:
            if clean:
                lines.give(line)
            else:
                lines.drop(line)
        return reply

    async def _ask(self, http: aiohttp.ClientSession, body: bytes, timeout_s: float, *, stream: bool) -> Reply | Fault:
        import aiohttp

        data = aiohttp.BytesPayload(body) if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body)
        try:
            async with http.post(
                self._completions, data=data, timeout=_timeout(timeout_s), allow_redirects=False
            ) as response:
                if response.status != 200:
                    raw = await _read(response)
                    header = response.headers.get("Retry-After")
                    fault = wire.read_error(response.status, raw, header, time.time())
                    return self._scrubbed(fault)
                if stream and response.content_type == "text/event-stream":
                    return self._scrubbed(await _read_stream(response))
                return self._scrubbed(wire.read_reply(await _read(response)))
        except TimeoutError:
            return Fault("timeout", f"no answer within {timeout_s:g} s", congestion=True)
        except aiohttp.ClientConnectorError as error:
            return self._scrubbed(Fault("unreachable", str(error.os_error or error)))
        except (aiohttp.InvalidURL, ValueError) as error:
            return self._scrubbed(Fault("bad-body", f"{type(error).__name__}: {error}"))
        except (aiohttp.ClientError, OSError) as error:
            return self._scrubbed(Fault("connection-lost", f"{type(error).__name__}: {error}"))

    def _scrubbed(self, reply: Reply | Fault) -> Reply | Fault:
        """The fault without the key, should the server have echoed it."""
        return replace(reply, detail=self.scrubbed(reply.detail)) if isinstance(reply, Fault) else reply

    def scrubbed(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._secret, "***") if len(self._secret) >= 4 else text


@functools.lru_cache(maxsize=16)
def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=seconds, ceil_threshold=1e9)


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


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, unless it is larger than any answer is."""
    if response.content_length is not None and response.content_length <= _MAX_BODY_BYTES:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise ValueError(f"the body is larger than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _read_stream(response: aiohttp.ClientResponse) -> Reply | Fault:
    answer = wire.Stream()
    size = 0
    async for line in response.content:
        size += len(line)
        if size > _MAX_BODY_BYTES:
            raise ValueError(f"the stream is larger than {_MAX_BODY_BYTES} bytes")
        fault = answer.feed(line)
        if fault is not None:
            return fault
        if answer.done:
            # the end of the body follows; with it the connection can be used again
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_OF_STREAM_S):
                    await response.content.read()
            break
    return answer.reply()
