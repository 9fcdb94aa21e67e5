"""The endpoint embedder, against a real local server that speaks ``/v1/embeddings``."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from lm_mixup.embed.endpoint import EndpointEmbedder
from lm_mixup.embed.hashing import HashEmbedder
from lm_mixup.errors import InputError, ProviderError
from lm_mixup.ports import Embedder

DIM = 16
KEY = "sk-very-secret"
TEXTS = [f"text number {i} " + "x" * i for i in range(30)]


class Server:
    """Answers with the hash embedder's vectors, doubled and in reverse order; can be told to refuse first."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: list[tuple[int, dict[str, str], bytes]] = []
        self.answer: bytes | None = None
        outer, lock, model = self, threading.Lock(), HashEmbedder(dim=DIM)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    refusal = outer.refusals.pop(0) if outer.refusals else None
                if self.path != "/v1/embeddings":
                    refusal = (404, {}, b"no such path")
                if refusal:
                    return self.send(*refusal)
                vectors = 2 * model.embed(body["input"])
                items = [{"index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
                return self.send(200, {}, outer.answer or json.dumps({"data": items[::-1]}).encode())

            def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def embedder(self, **options: Any) -> EndpointEmbedder:
        return EndpointEmbedder(self.base_url, "m/odel", **{"dim": DIM, "backoff_s": 0.01, "api_key": KEY, **options})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def test_vectors_in_order_in_batches_with_the_key(server: Server) -> None:
    embedder = server.embedder(batch_texts=7)
    assert isinstance(embedder, Embedder)
    vectors = embedder.embed(TEXTS)
    assert np.allclose(vectors, HashEmbedder(dim=DIM).embed(TEXTS), atol=1e-3)
    assert sorted(len(request["input"]) for request in server.requests) == [2, 7, 7, 7, 7]
    assert {request["model"] for request in server.requests} == {"m/odel"}
    assert "dimensions" not in server.requests[0]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert embedder.embed([]).shape == (0, DIM)


def test_a_batch_boundary_changes_nothing(server: Server) -> None:
    assert server.embedder(batch_texts=3).embed(TEXTS).tobytes() == server.embedder().embed(TEXTS).tobytes()


def test_works_inside_a_running_event_loop(server: Server) -> None:
    async def main() -> Any:
        return server.embedder().embed(TEXTS[:3])

    assert asyncio.run(main()).shape == (3, DIM)


def test_dimensions_are_asked_for_on_request(server: Server) -> None:
    server.embedder(send_dim=True).embed(["a"])
    assert server.requests[0]["dimensions"] == DIM


def test_long_texts_go_as_windows_and_empty_ones_as_a_stop(server: Server) -> None:
    long = "abcdefghij" * 10
    vectors = server.embedder(max_chars=30, max_windows=4).embed([long, "", "  "])
    assert server.requests[0]["input"] == [long[:25], long[25:50], long[50:75], long[75:], ".", "."]
    expected = HashEmbedder(dim=DIM).embed(server.requests[0]["input"][:4]).mean(0)
    assert np.allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-3)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(server: Server, status: int) -> None:
    server.refusals = [(status, {}, b"later"), (status, {"Retry-After": "0.01"}, b"later")]
    assert server.embedder().embed(["a"]).shape == (1, DIM)
    assert len(server.requests) == 3


def test_it_gives_up_in_the_end(server: Server) -> None:
    server.refusals = [(503, {}, b"overloaded")] * 9
    with pytest.raises(ProviderError, match=r"status 503: overloaded \(attempts: 3\)"):
        server.embedder(max_attempts=3).embed(["a"])
    assert len(server.requests) == 3


def test_a_refusal_for_good_is_not_repeated_and_the_key_not_told(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.refusals = [(401, {}, f"wrong key {KEY}".encode())]
    embedder = server.embedder()
    with pytest.raises(ProviderError, match=r"status 401: wrong key \*\*\*\*") as caught:
        embedder.embed(["a"])
    assert len(server.requests) == 1
    for told in (str(caught.value), caplog.text, embedder.key, repr(embedder)):
        assert KEY not in told


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        b"[]",
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}]}',
        b'{"data": [{"index": 1, "embedding": [%s]}]}' % b",".join([b"1"] * DIM),
        b'{"data": [{"index": 0, "embedding": [%s]}]}' % b",".join([b"0"] * DIM),
        b'{"data": [{"index": 0, "embedding": [%s, null]}]}' % b",".join([b"1"] * (DIM - 1)),
    ],
)
def test_an_answer_that_is_none_is_an_error(server: Server, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(ProviderError, match="expected"):
        server.embedder().embed(["a"])


def test_nobody_there_and_no_address() -> None:
    with pytest.raises(ProviderError, match="attempts: 2"):
        EndpointEmbedder("http://127.0.0.1:9/v1", "m", dim=2, max_attempts=2, backoff_s=0.01).embed(["a"])
    with pytest.raises(InputError, match="base_url"):
        EndpointEmbedder("not an address", "m", dim=2).embed(["a"])


def test_the_key_names_model_and_windows_but_no_address() -> None:
    def key(url: str = "http://a/v1", model: str = "m", **options: Any) -> str:
        return EndpointEmbedder(url, model, **{"dim": 4, **options}).key

    assert key() == key(url="http://b/v1", api_key="k", batch_texts=2)
    assert len({key(), key(model="n"), key(dim=5), key(max_chars=9), key(max_windows=1)}) == 5


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="concurrency: expected at least 1, got 0"):
        EndpointEmbedder("http://a/v1", "m", dim=2, concurrency=0)
