"""HTTP/1.1 (RFC 9112) as far as an endpoint's client needs it: one connection, one request at a time, no more.

Of the CPU time that a request takes, a general client spends most on what is not needed here (cookies, redirects,
pools, proxies). :class:`Reader` knows bytes alone and no sockets. It is strict: whatever leaves open where an answer
ends is a :class:`BadResponse`, and a connection that says something unasked is given up.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

MAX_HEAD_BYTES: Final = 2**16
MAX_BODY_BYTES: Final = 2**25

Watch = Callable[[bytes], bool]
"""Takes a piece of an event stream as it comes; True once it has seen enough."""

_LINGER_S = 0.1  # how long the end of a stream may take, of which enough was seen

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: |$)")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")

_CHUNK_SIZE, _CHUNK_END, _TRAILER = range(3)


class BadResponse(Exception):
    """What came is no HTTP/1.1 response, or one larger than any answer is."""


class ConnectionLost(Exception):
    """The connection ended before the answer did."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; names of headers are lower-case. ``reusable``: the connection can take another request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool


class Reader:
    """Reads one response out of the pieces in which it comes. ``watch`` is shown the body of an event stream."""

    def __init__(self, watch: Watch | None = None) -> None:
        self.enough = False
        """Whether the watch has seen enough."""
        self._watch = watch
        self._head = b""  # as far as it has come
        self._status = 0  # 0: the head is not complete yet
        self._headers: dict[str, str] = {}
        self._keeps_alive = False
        self._body: list[bytes] = []
        self._size = 0  # of the body so far
        self._left: int | None = None  # bytes until the body's end, or the chunk's; None: until the connection's
        self._chunked = False
        self._chunks = bytearray()  # what is not understood yet of a chunked body
        self._next = _CHUNK_SIZE  # what comes next in it
        self._surplus = False

    def feed(self, piece: bytes) -> Response | None:
        """Take a piece; the response once it is complete. Raises :class:`BadResponse`."""
        while not self._status:
            rest = self._read_head(self._head + piece)
            if rest is None:
                return None
            piece = rest
        if self._chunked:
            self._chunks += piece
            return self._read_chunks()
        if self._left is None:
            self._take(piece)
            return None
        self._surplus = len(piece) > self._left
        piece = piece[: self._left]
        self._left -= len(piece)
        self._take(piece)
        return None if self._left else self._whole()

    def end(self) -> Response | None:
        """The connection has ended: the response if that was its end, None where something is missing."""
        return self._whole(reusable=False) if self._status and self._left is None and not self._chunked else None

    def so_far(self) -> Response:
        """What has come of a response whose watch has seen enough."""
        return self._whole(reusable=False)

    def _read_head(self, came: bytes) -> bytes | None:
        """Read a head, if it is complete, and return what follows. One that announces another (100) is passed by."""
        came = came.lstrip(b"\r\n")  # some servers end a body with a line break too many
        end = _HEAD_END.search(came)
        if (end.start() if end else len(came)) > MAX_HEAD_BYTES:
            raise BadResponse(f"the head is longer than {MAX_HEAD_BYTES} bytes")
        if end is None:
            self._head = came
            return None
        self._head = b""
        first, *lines = came[: end.start()].split(b"\n")
        found = _STATUS.match(first.rstrip(b"\r"))
        if found is None:
            raise BadResponse(f"expected HTTP/1.1, got {first[:40]!r}")
        status = int(found[2])
        if status == 101:
            raise BadResponse("the server wants to speak another protocol")
        if status >= 200:
            self._headers = _headers(lines)
            self._begin_body(status, http11=found[1] == b"1")
        return came[end.end() :]

    def _begin_body(self, status: int, *, http11: bool) -> None:
        said = {word.strip() for word in self._headers.get("connection", "").lower().split(",")}
        self._keeps_alive = "close" not in said and (http11 or "keep-alive" in said)
        coding = self._headers.get("transfer-encoding", "").lower()
        length = self._headers.get("content-length")
        if status in (204, 304):
            self._left = 0
        elif coding:
            if coding != "chunked":
                raise BadResponse(f"transfer coding {coding[:40]!r}")
            self._chunked, self._left = True, 0
        elif length is not None:
            self._left = _length(length)
        is_stream = self._headers.get("content-type", "").lower().startswith("text/event-stream")
        if status != 200 or not is_stream or self._packed:
            self._watch = None
        self._status = status

    @property
    def _packed(self) -> bool:
        return self._headers.get("content-encoding", "identity").lower() != "identity"

    def _take(self, piece: bytes) -> None:
        """Add a piece to the body."""
        self._size += len(piece)
        if self._size > MAX_BODY_BYTES:
            raise BadResponse(f"the body is larger than {MAX_BODY_BYTES} bytes")
        if self._watch is None:
            self._body.append(piece)
        elif not self.enough:
            self.enough = self._watch(piece)

    def _read_chunks(self) -> Response | None:
        while True:
            if self._left:
                piece = bytes(self._chunks[: self._left])
                del self._chunks[: self._left]
                self._left -= len(piece)
                self._take(piece)
                if self._left:
                    return None
            end = self._chunks.find(b"\n")
            if end < 0:
                if len(self._chunks) > MAX_HEAD_BYTES:
                    raise BadResponse("a chunk without its size")
                return None
            line = bytes(self._chunks[:end]).rstrip(b"\r")
            del self._chunks[: end + 1]
            if self._next == _CHUNK_SIZE:
                found = _SIZE.fullmatch(line)
                if found is None:
                    raise BadResponse(f"expected the size of a chunk, got {line[:40]!r}")
                self._left = int(found[1], 16)
                self._next = _CHUNK_END if self._left else _TRAILER
            elif self._next == _CHUNK_END:
                if line:
                    raise BadResponse(f"expected the end of a chunk, got {line[:40]!r}")
                self._next = _CHUNK_SIZE
            elif not line:
                self._surplus = bool(self._chunks)
                return self._whole()

    def _whole(self, *, reusable: bool = True) -> Response:
        body = _unpacked(b"".join(self._body)) if self._packed else b"".join(self._body)
        return Response(self._status, self._headers, body, reusable and self._keeps_alive and not self._surplus)


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, text = _header(line)
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


@functools.lru_cache(maxsize=256)  # most are the same in every answer
def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise BadResponse(f"expected a header, got {line[:40]!r}")
    return name.decode().lower(), value.strip().decode("latin-1")


def _length(header: str) -> int:
    """A Content-Length, which may be said several times, but not differently."""
    said = {part.strip() for part in header.split(",")}
    (first, *others) = said
    if others or not first.isascii() or not first.isdecimal() or len(first) > 12:
        raise BadResponse(f"content length {header[:40]!r}")
    if int(first) > MAX_BODY_BYTES:
        raise BadResponse(f"the body is larger than {MAX_BODY_BYTES} bytes")
    return int(first)


def _unpacked(body: bytes) -> bytes:
    """A body that was compressed (gzip, deflate) although nobody asked for that."""
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = unpacking.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise BadResponse(f"a compressed body that cannot be read: {error}") from error
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise BadResponse("a compressed body that is too large, or cut off")
    return plain


class Connection(asyncio.Protocol):
    """One connection. ``number`` tells it from others."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.usable = True
        """Whether a request may be sent: it stands, and has said nothing unasked."""
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._reader: Reader | None = None
        self._answer: asyncio.Future[Response] | None = None

    async def ask(self, request: bytes, watch: Watch | None = None) -> Response:
        """Send a request and wait for its response. Raises :class:`ConnectionLost`, :class:`BadResponse`."""
        if self._transport is None or not self.usable:
            raise ConnectionLost("the connection was closed before the request was sent")
        self._reader = Reader(watch)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = self._reader = None

    def abort(self) -> None:
        """Give the connection up."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        reader, answer = self._reader, self._answer
        if reader is None or answer is None or answer.done():
            self.abort()  # nobody asked for this; the next answer would be another request's
            return
        try:
            response = reader.feed(data)
        except BadResponse as error:
            answer.set_exception(error)
            return
        if response is not None:
            answer.set_result(response)
        elif reader.enough:
            answer.get_loop().call_later(_LINGER_S, self._end_early, reader, answer)

    def eof_received(self) -> None:
        """Nothing more will come."""
        self._ended("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended(f"{type(exc).__name__}: {exc}" if exc else "the connection was closed")

    def _ended(self, why: str) -> None:
        self.usable = False
        if self._answer is None or self._answer.done() or self._reader is None:
            return
        try:
            response = self._reader.end()
        except BadResponse as error:
            self._answer.set_exception(error)
            return
        if response is None and self._reader.enough:
            response = self._reader.so_far()
        if response is None:
            self._answer.set_exception(ConnectionLost(why))
        else:
            self._answer.set_result(response)

    def _end_early(self, reader: Reader, answer: asyncio.Future[Response]) -> None:
        if not answer.done():
            answer.set_result(reader.so_far())
