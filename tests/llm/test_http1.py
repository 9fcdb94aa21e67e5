"""Reading HTTP/1.1 responses in any pieces, and connections that are closed, noisy or encrypted."""

import asyncio
import contextlib
import gzip
import shutil
import ssl
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.llm.endpoint import Endpoint
from lm_mixup.llm.http1 import MAX_BODY_BYTES, BadResponse, Connection, ConnectionLost, Reader
from lm_mixup.llm.openai_wire import Fault, Reply

ANSWER = b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}'


def counted(body: bytes, *more: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, b"Content-Length: %d" % len(body), *more, b"", body])


CHUNK_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNK_HEAD + b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
WHOLE = {
    "counted": (counted(b"hello world"), True),
    "chunked": (CHUNKED, True),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + counted(b"hello world"), True),
    "after 103": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + counted(b"hello world"), True),
    "line breaks before": (b"\r\n\r\n" + counted(b"hello world"), True),
    "bare line breaks": (counted(b"hello world").replace(b"\r\n", b"\n"), True),
    "length twice": (counted(b"hello world", b"content-length: 11"), True),
    "gzip": (counted(gzip.compress(b"hello world"), b"Content-Encoding: gzip"), True),
    "close": (counted(b"hello world", b"Connection: close"), False),
    "1.0": (counted(b"hello world", first=b"HTTP/1.0 200 OK"), False),
    "1.0 kept": (counted(b"hello world", b"Connection: Keep-Alive", first=b"HTTP/1.0 200 OK"), True),
    "no reason": (counted(b"hello world", first=b"HTTP/1.1 200"), True),
}


def read(pieces):
    reader = Reader()
    found = [response for piece in pieces if (response := reader.feed(piece)) is not None]
    return found[0] if found else None


@pytest.mark.parametrize("name", WHOLE)
def test_a_response_is_the_same_in_whatever_pieces_it_comes(name):
    data, reusable = WHOLE[name]
    expected = (200, b"hello world", reusable)
    for cut in range(1, len(data)):
        response = read([data[:cut], data[cut:]])
        assert (response.status, response.body, response.reusable) == expected
    response = read([data[i : i + 1] for i in range(len(data))])
    assert (response.status, response.body, response.reusable) == expected


@pytest.mark.parametrize("name", WHOLE)
def test_no_beginning_of_a_response_is_a_response(name):
    data, _ = WHOLE[name]
    for size in range(len(data)):
        reader = Reader()
        assert reader.feed(data[:size]) is None
        assert reader.end() is None


def test_a_body_without_a_length_ends_with_the_connection():
    reader = Reader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhello") is None
    assert reader.feed(b" world") is None
    assert (reader.end().body, reader.end().reusable) == (b"hello world", False)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_have_no_body(status):
    response = read([b"HTTP/1.1 " + status + b"\r\n\r\n"])
    assert (response.body, response.reusable) == (b"", True)


def test_more_than_was_announced_makes_the_connection_useless():
    assert read([counted(b"hello") + b"HTTP/1.1"]).reusable is False
    assert read([CHUNKED + b"x"]).reusable is False


BAD = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "status": b"HTTP/1.1 abc\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "header's name": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
    "folded": b"HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\n\r\n",
    "two lengths": counted(b"hello", b"Content-Length: 6"),
    "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "not a number": "HTTP/1.1 200 OK\r\nContent-Length: ５\r\n\r\nhello".encode(),
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
    "coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunk's size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
    "chunk's end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello world\r\n",
    "long head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    "long chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000,
    "gzip": counted(b"hello", b"Content-Encoding: gzip"),
    "gzip cut off": counted(gzip.compress(b"hello" * 100)[:-4], b"Content-Encoding: gzip"),
    "a bomb": counted(gzip.compress(b"x" * (MAX_BODY_BYTES + 1)), b"Content-Encoding: gzip"),
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1),
}


@pytest.mark.parametrize("name", BAD)
def test_what_leaves_open_where_it_ends_is_refused(name):
    with pytest.raises(BadResponse):
        read([BAD[name]])


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([data for data, _ in WHOLE.values()])), max_size=6))
def test_no_bytes_do_harm(pieces):
    with contextlib.suppress(BadResponse):
        read(pieces)
    with contextlib.suppress(BadResponse):
        read([CHUNKED[:60], *pieces])


# ---- over sockets --------------------------------------------------------------------------------------------------


async def serve(talk, tls=None):
    """A server whose connections do what ``talk(reader, writer)`` does; and its port."""

    async def handle(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    return server, server.sockets[0].getsockname()[1]


async def request_of(reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(int(size.split(b":")[1]))


def test_what_is_sent():
    got = []

    async def talk(reader, writer):
        got.append(await request_of(reader))
        writer.write(counted(ANSWER))

    async def work():
        server, port = await serve(talk)
        endpoint = Endpoint(f"http://127.0.0.1:{port}/a b/é/v1/", "sk-key")
        async with server, endpoint.lines() as lines:
            assert isinstance(await endpoint.ask(lines, b"{}", 5, stream=False), Reply)
        return port

    port = asyncio.run(work())
    first, *headers = got[0].decode().split("\r\n")
    assert first == "POST /a%20b/%C3%A9/v1/chat/completions HTTP/1.1"
    assert {f"Host: 127.0.0.1:{port}", "Authorization: Bearer sk-key", "Content-Type: application/json"} <= set(headers)
    assert headers[-3:] == ["Content-Length: 2", "", "{}"]


def test_a_connection_is_used_again_after_a_clean_answer_alone():
    connections = []

    async def talk(reader, writer):
        connections.append(0)
        while True:
            body = await request_of(reader)
            connections[-1] += 1
            writer.write(counted(b"{}", first=b"HTTP/1.1 500 Oops") if b"bad" in body else counted(ANSWER))

    async def work():
        server, port = await serve(talk)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", None)
        async with server, endpoint.lines() as lines:
            for body in (b"good", b"good", b"bad", b"good", b"good"):
                await endpoint.ask(lines, body, 5, stream=False)

    asyncio.run(work())
    assert connections == [3, 2]


@pytest.mark.parametrize("noise", [b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"?", None])
def test_a_connection_that_says_something_unasked_or_is_closed_takes_no_request(noise):
    async def talk(reader, writer):
        await request_of(reader)
        writer.write(counted(ANSWER))
        await asyncio.sleep(0.05)
        if noise:
            writer.write(noise)
            await reader.read()

    async def work():
        server, port = await serve(talk)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", None)
        async with server, endpoint.lines() as lines:
            for _ in range(3):
                assert isinstance(await endpoint.ask(lines, b"{}", 5, stream=False), Reply)
                async with asyncio.timeout(10):
                    while lines._idle[-1].usable:
                        await asyncio.sleep(0.01)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", "connection-lost"),
        (counted(ANSWER)[:-1], "connection-lost"),
        (b"nonsense\r\n\r\n", "bad-body"),
        (counted(ANSWER, b"Content-Encoding: gzip"), "bad-body"),
    ],
)
def test_what_goes_wrong_on_a_connection_is_a_fault(said, kind):
    async def talk(reader, writer):
        await request_of(reader)
        writer.write(said)

    async def work():
        server, port = await serve(talk)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", None)
        async with server, endpoint.lines() as lines:
            return await endpoint.ask(lines, b"{}", 5, stream=False)

    fault = asyncio.run(work())
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.billed, fault.retry) == (kind, True, True)


def test_a_stream_that_stays_open_after_its_end_is_an_answer():
    event = b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    async def talk(reader, writer):
        await request_of(reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        for byte in head + b"%x\r\n" % len(event) + event + b"\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
        await reader.read()

    async def work():
        server, port = await serve(talk)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", None)
        async with server, endpoint.lines() as lines:
            return await endpoint.ask(lines, b"{}", 4, stream=True)

    assert asyncio.run(work()).text == "hi"


def test_a_connection_that_was_never_made_takes_no_request():
    with pytest.raises(ConnectionLost):
        asyncio.run(Connection(1).ask(b"GET / HTTP/1.1\r\n\r\n"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with the openssl command")
def test_encrypted_connections_and_certificates_that_nobody_vouches_for(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async def talk(reader, writer):
        for _ in range(2):
            await request_of(reader)
            writer.write(counted(ANSWER))

    async def work():
        server, port = await serve(talk, tls)
        endpoint = Endpoint(f"https://localhost:{port}", None)
        async with server, endpoint.lines() as lines:
            return [await endpoint.ask(lines, b"{}", 5, stream=False) for _ in range(2)]

    from lm_mixup.llm import endpoint

    endpoint._tls.cache_clear()
    (fault, _) = asyncio.run(work())
    assert fault.kind == "unreachable"
    assert "certificate" in fault.detail
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    endpoint._tls.cache_clear()
    try:
        assert [reply.text for reply in asyncio.run(work())] == ["hello", "hello"]
    finally:
        endpoint._tls.cache_clear()
