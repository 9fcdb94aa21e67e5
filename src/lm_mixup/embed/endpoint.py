"""Embeddings from any server that speaks OpenAI's ``POST /v1/embeddings``: OpenAI, vLLM, TEI, Ollama, llama.cpp.

Whether a vector depends on the company of its text is the server's affair; rounding to float16 hides its last bits.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from lm_mixup.embed.windows import window_spans
from lm_mixup.errors import InputError, ProviderError
from lm_mixup.ports import Vectors

_TOLD_CHARS = 300
"""How much of a server's complaint goes into an error."""

_EMPTY_TEXT = "."
"""Sent in place of an empty text, which servers refuse."""


class EndpointEmbedder:
    """Embeds through ``base_url`` (``https://…/v1``) with the server's ``model``, whose vectors have ``dim`` numbers.

    ``api_key`` is sent as a bearer token and stands in no key, log or error. ``send_dim``: ask the server for ``dim``
    dimensions (models that can shorten their vectors). ``batch_texts`` texts a request, ``concurrency`` requests at a
    time. A text of more than ``max_chars`` characters is cut into at most ``max_windows`` windows as in
    :func:`~lm_mixup.embed.windows.window_spans`; its vector is their mean by length, normalised.

    429, 5xx and broken connections are tried ``max_attempts`` times in all, after ``backoff_s`` seconds, twice that,
    four times that …, or what the server's ``Retry-After`` says, at most ``max_backoff_s``.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        dim: int,
        api_key: str | None = None,
        send_dim: bool = False,
        batch_texts: int = 64,
        concurrency: int = 4,
        max_chars: int = 16_000,
        max_windows: int = 4,
        max_attempts: int = 6,
        backoff_s: float = 1.0,
        max_backoff_s: float = 60.0,
        timeout_s: float = 120.0,
    ) -> None:
        at_least_one = {
            "dim": dim,
            "batch_texts": batch_texts,
            "concurrency": concurrency,
            "max_chars": max_chars,
            "max_windows": max_windows,
            "max_attempts": max_attempts,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._dim = dim
        self._api_key = api_key
        self._send_dim = send_dim
        self._batch_texts = batch_texts
        self._concurrency = concurrency
        self._max_chars = max_chars
        self._max_windows = max_windows
        self._max_attempts = max_attempts
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        self._timeout_s = timeout_s

    @property
    def key(self) -> str:
        """A hash of the model's name, dimension and windows; no address, no secret."""
        settings = [self._model, self._dim, self._send_dim, self._max_chars, self._max_windows]
        return f"endpoint-{hashlib.blake2b(orjson.dumps(settings), digest_size=8).hexdigest()}-v1"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n_texts, dim) float32, unit rows. Raises ProviderError where the server refuses or stays away."""
        pieces: list[str] = []
        owners: list[int] = []
        for row, text in enumerate(texts):
            for begin, end in window_spans(len(text), self._max_chars, self._max_windows):
                pieces.append(text[begin:end] if text[begin:end].strip() else _EMPTY_TEXT)
                owners.append(row)
        if not pieces:
            return np.empty((0, self._dim), np.float32)
        vectors = self._run(pieces)
        weighted = vectors * np.array([[len(piece)] for piece in pieces], np.float32)
        sums = np.add.reduceat(weighted, np.flatnonzero(np.diff(owners, prepend=-1)), axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        if not norms.all():
            raise ProviderError(f"{self._url}: expected vectors with a direction, got one of zeros only")
        unit: Vectors = (sums / norms).astype(np.float16).astype(np.float32)
        return unit

    def _run(self, pieces: list[str]) -> Vectors:
        """Run the requests in a thread with an event loop of its own: the caller may be inside one already."""
        outcome: list[Vectors | BaseException] = []

        def work() -> None:
            try:
                outcome.append(asyncio.run(self._all(pieces)))
            except BaseException as error:  # noqa: BLE001 boundary: carried over to the calling thread, and raised there
                outcome.append(error)

        thread = threading.Thread(target=work, name="lm-mixup-embeddings", daemon=True)
        thread.start()
        thread.join()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    async def _all(self, pieces: list[str]) -> Vectors:
        import aiohttp

        vectors = np.empty((len(pieces), self._dim), np.float32)
        starts = iter(range(0, len(pieces), self._batch_texts))
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

        async def worker(session: aiohttp.ClientSession) -> None:
            for start in starts:  # shared: each start is taken by one worker
                batch = pieces[start : start + self._batch_texts]
                vectors[start : start + len(batch)] = await self._batch(session, batch)

        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            # the first error ends the call; asyncio.run then cancels what is still in flight
            await asyncio.gather(*(worker(session) for _ in range(self._concurrency)))
        return vectors

    async def _batch(self, session: Any, batch: list[str]) -> Vectors:
        body: dict[str, Any] = {"model": self._model, "input": batch, "encoding_format": "float"}
        if self._send_dim:
            body["dimensions"] = self._dim
        data = orjson.dumps(body)
        attempt = 1
        while True:
            answer = await self._ask(session, data)
            if isinstance(answer, bytes):
                return self._parse(answer, len(batch))
            if not answer.passing or attempt == self._max_attempts:
                tries = f"attempts: {attempt}"
                raise ProviderError(f"{self._url}, model {self._model!r}: {answer.told} ({tries})")
            wait_s = self._backoff_s * 2 ** (attempt - 1) if answer.retry_after_s is None else answer.retry_after_s
            await asyncio.sleep(min(wait_s, self._max_backoff_s))
            attempt += 1

    async def _ask(self, session: Any, data: bytes) -> bytes | _Refusal:
        import aiohttp

        try:
            async with session.post(self._url, data=data, headers={"Content-Type": "application/json"}) as response:
                content: bytes = await response.read()
                if response.status == 200:
                    return content
                passing = response.status in (408, 409, 429) or response.status >= 500
                told = f"status {response.status}: {self._clean(content.decode(errors='replace'))}"
                return _Refusal(told, passing, _seconds(response.headers.get("Retry-After")))
        except aiohttp.InvalidURL:
            raise InputError(f"base_url: expected an address like https://host/v1, got {self._url!r}") from None
        except TimeoutError:
            return _Refusal(f"no answer within {self._timeout_s:g} s", True)
        except (aiohttp.ClientError, OSError) as error:
            return _Refusal(self._clean(f"{type(error).__name__}: {error}"), True)

    def _clean(self, told: str) -> str:
        # some servers repeat the key in their complaint
        hidden = told.replace(self._api_key, "****") if self._api_key else told
        return " ".join(hidden.split())[:_TOLD_CHARS]

    def _parse(self, content: bytes, count: int) -> Vectors:
        try:
            data = orjson.loads(content)["data"]
            rows = sorted(data, key=lambda item: item["index"])
            indices = [item["index"] for item in rows]
            vectors: Vectors = np.array([item["embedding"] for item in rows], np.float32)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"{self._url}: expected an answer of /v1/embeddings, got {error!r}") from None
        if indices != list(range(count)) or vectors.shape != (count, self._dim):
            raise ProviderError(
                f"{self._url}: expected {count} vectors of {self._dim} numbers, got an array of shape {vectors.shape}; "
                "is dim what this model gives?"
            )
        if not np.isfinite(vectors).all():
            raise ProviderError(f"{self._url}: expected finite numbers, got others")
        # unit windows: a text's windows weigh by their length alone
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer that is none: what was said, whether it may pass, and how long the server asks to wait."""

    told: str
    passing: bool
    retry_after_s: float | None = None


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds; its other form, a date, is left to our own back-off."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
