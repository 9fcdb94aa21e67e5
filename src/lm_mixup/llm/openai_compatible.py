"""Any endpoint that speaks the OpenAI chat-completions protocol: OpenAI, vLLM, Ollama, llama.cpp, most gateways."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from lm_mixup.errors import InputError, ProviderError
from lm_mixup.ledger import Answer, Attempt, Ledger
from lm_mixup.llm import loop as shared_loop
from lm_mixup.llm import openai_wire as wire
from lm_mixup.llm.conveyor import Conveyor, Note
from lm_mixup.llm.limits import Backoff, Concurrency, Rate
from lm_mixup.llm.openai_wire import Fault, Reply
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure, digest

if TYPE_CHECKING:
    import aiohttp

OPENAI_URL = "https://api.openai.com/v1"

_log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 32 * 2**20
_LARGE_BODY_BYTES = 2**20  # above this, aiohttp wants a file-like body
_WORKERS_PER_PLACE = 4  # more than one: those that wait before their next attempt take no place
_GIVE_UP_AFTER = 3  # prompts given up in a row, with no answer between them: the endpoint is at fault, not the prompts
_CONFIRM_S = 0.5
_END_OF_STREAM_S = 0.1
_REFUSALS = frozenset({"http-401", "http-403", "http-404", "http-405", "no-quota"})


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens."""

    input_per_million: float
    output_per_million: float

    def usd(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """The price of one answer, None where the tokens are not known."""
        if prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million) / 1e6


class OpenAICompatible:
    """The model ``model`` at ``base_url`` (the part before ``/chat/completions``).

    Many prompts are under way at a time, at most ``concurrency``; how many, it finds out (:class:`Concurrency`).
    429, 503 and timeouts slow it down; ``Retry-After`` is obeyed; ``requests_per_minute`` and ``tokens_per_minute`` are
    kept to where given. An attempt ends after ``timeout_s``, a prompt after ``max_attempts`` attempts or ``deadline_s``
    after its first was sent; then it is a :class:`Failure`. A prompt that the server refuses (too long, a content
    filter) is a Failure at once. An endpoint that refuses everything, confirmed once, is a :class:`ProviderError`, and
    so is one that answers nothing at all any more.

    With a ``ledger``, every answer and every attempt is kept there, and nothing that it answers is asked again;
    ``offline`` asks nothing at all: what the ledger does not hold is a Failure ``not-in-ledger``.

    ``json_schema``: how a prompt's schema is sent: ``auto`` tries ``json_schema``, then ``json_object``, then nothing,
    as far as the server goes. ``stream`` reads answers as event streams. ``extra_body`` is added to every request
    (``{"top_k": 1}``, ``{"reasoning_effort": "low"}``). ``price`` is None where unknown.

    The key (``api_key``) goes into the Authorization header and nowhere else. One event loop at a time.

    Raises :class:`InputError` for an address that cannot be used, :class:`ProviderError` and (from the ledger)
    :class:`StorageError` while answering.
    """

    def __init__(
        self,
        model: str,
        base_url: str = OPENAI_URL,
        api_key: str | None = None,
        *,
        ledger: Ledger | None = None,
        offline: bool = False,
        concurrency: int = 64,
        timeout_s: float = 120.0,
        deadline_s: float = 900.0,
        max_attempts: int = 8,
        backoff: Backoff | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        stream: bool = False,
        json_schema: Literal["auto", "json_schema", "json_object", "off"] = "auto",
        price: Price | None = None,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        trust_env: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not model:
            raise InputError("expected the name of a model, got an empty one")
        self.model = model
        self.base_url = _checked_url(base_url)
        self._secret = _checked_key(api_key)
        self._ledger = ledger
        self._offline = offline
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_attempts = max_attempts
        self._backoff = backoff or Backoff()
        self._stream = stream
        self._price = price
        self._extra_body = dict(extra_body)
        self._trust_env = trust_env
        self._clock = clock
        self._places = Concurrency(concurrency, clock)
        self._requests = Rate(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = Rate(tokens_per_minute, clock) if tokens_per_minute else None
        asked_for = {"auto": (), "json_schema": (), "json_object": ("json_schema",)}
        self._left_out: frozenset[str] = frozenset(asked_for.get(json_schema, ("json_schema", "json_object")))
        self._answered = 0
        self._given_up_in_a_row = 0
        self._kept: aiohttp.ClientSession | None = None
        self._kept_loop: asyncio.AbstractEventLoop | None = None
        self._entered = False

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.model!r}, {self.base_url!r})"

    @property
    def key(self) -> str:
        """The model and what is added to every request; no address and no secret."""
        extra = f"+{digest(self._extra_body)[:12]}" if self._extra_body else ""
        return f"openai:{self.model}{extra}"

    @property
    def concurrency(self) -> Concurrency:
        """How many requests may be under way, and are."""
        return self._places

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """An answer, or a failure, for each prompt, in their order."""
        return [answer async for answer in self.stream(prompts, window=max(1, len(prompts)))]

    async def stream(self, prompts: Iterable[Prompt], *, window: int = 4096) -> AsyncIterator[Completion | Failure]:
        """The same one by one, in the order of the prompts, with at most ``window`` of them in memory."""
        async with self._session() as http:

            async def ask(prompt: Prompt, note: Note) -> Answer | Fault:
                if self._offline:
                    return Fault("not-in-ledger", "asked offline, and the ledger holds no answer", retry=False)
                return await self._ask(http, prompt, note)

            workers = self._places.maximum * _WORKERS_PER_PLACE
            conveyor = Conveyor(prompts, ask, model=self.key, ledger=self._ledger, workers=workers, window=window)
            async with contextlib.aclosing(conveyor.results()) as results:
                async for result in results:
                    yield result

    # ---- connections -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.aclose()
        self._kept, self._kept_loop, self._entered = self._new_session(), asyncio.get_running_loop(), True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that are kept. Must run on the loop they belong to; the next call opens new ones."""
        session, self._kept, self._kept_loop = self._kept, None, None
        shared_loop.forget(self.aclose)
        if session is not None:
            await session.close()

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """The connections: kept within ``async with`` and on the shared loop, else for one call."""
        loop = asyncio.get_running_loop()
        if self._kept is not None and self._kept_loop is loop:
            yield self._kept
        elif shared_loop.is_shared(loop):
            self._kept, self._kept_loop = self._new_session(), loop
            shared_loop.at_exit(self.aclose)
            yield self._kept
        else:
            async with self._new_session() as session:
                yield session

    def _new_session(self) -> aiohttp.ClientSession:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30)
        return aiohttp.ClientSession(
            connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar(), trust_env=self._trust_env
        )

    # ---- one prompt --------------------------------------------------------------------------------------------

    async def _ask(self, http: aiohttp.ClientSession, prompt: Prompt, note: Note) -> Answer | Fault:
        """One prompt's answer, or the fault of its last attempt."""
        deadline: float | None = None
        refused, attempts, failures = frozenset[str](), 0, 0
        last = Fault("deadline", f"not answered within {self._deadline_s:g} s")
        answered_at_refusal: int | None = None
        while True:
            left_out = self._left_out | refused
            body = wire.request_body(self.model, prompt, left_out, stream=self._stream, extra=self._extra_body)
            sent_at = await self._place(len(body) / 4 + prompt.max_tokens, ahead=answered_at_refusal is not None)
            deadline = sent_at + self._deadline_s if deadline is None else deadline
            if sent_at >= deadline:
                self._places.release()
                return last
            reply = await self._attempt(http, body, sent_at, min(self._timeout_s, deadline - sent_at))
            attempts += 1
            latency_s = self._clock() - sent_at
            if isinstance(reply, Reply):
                self._left_out |= refused  # confirmed: without them it works
                self._correct_tokens(reply, len(body) / 4 + prompt.max_tokens)
                return self._answer(reply, left_out, attempts, latency_s)
            last = reply
            note(Attempt(reply.kind, reply.detail, latency_s=latency_s))
            trial = _next_refused(reply.refused, left_out)
            if trial:
                _log.warning("%s does not take %s; trying without (%s)", self.model, trial, reply.detail)
                refused |= {trial}
                continue
            if reply.kind in _REFUSALS or reply.kind.startswith("http-3"):
                if answered_at_refusal is None:
                    answered_at_refusal = self._answered
                    if self._answered == 0 or reply.kind != "http-403":
                        self._places.hold(_CONFIRM_S)  # spare the others, until it is known whom it is about
                    await asyncio.sleep(_CONFIRM_S)
                    continue
                self._check_refusal(reply, answered_at_refusal)
                return reply
            failures += 1
            if not reply.retry:
                return reply
            wait_s = self._backoff.seconds(failures, reply.retry_after_s)
            if failures >= self._max_attempts or self._clock() + wait_s >= deadline:
                self._give_up(reply)
                return reply
            await asyncio.sleep(wait_s)

    def _answer(self, reply: Reply, left_out: frozenset[str], attempts: int, latency_s: float) -> Answer:
        price = self._price.usd(reply.prompt_tokens, reply.completion_tokens) if self._price else None
        details = dict(reply.details)
        if left_out:
            details["left_out"] = sorted(left_out)
        return Answer(
            reply.text,
            reply.finish_reason,
            reply.prompt_tokens,
            reply.completion_tokens,
            price,
            attempts,
            latency_s,
            details,
        )

    async def _place(self, worst_tokens: float, *, ahead: bool) -> float:
        """Wait until one more request may be sent; returns the time."""
        if self._requests is not None:
            await self._requests.take(1)
        if self._tokens is not None:
            await self._tokens.take(worst_tokens)
        return await self._places.acquire(ahead=ahead)

    def _correct_tokens(self, reply: Reply, worst_tokens: float) -> None:
        if self._tokens is not None and reply.prompt_tokens is not None:
            self._tokens.correct(reply.prompt_tokens + (reply.completion_tokens or 0) - worst_tokens)

    async def _attempt(
        self, http: aiohttp.ClientSession, body: bytes, sent_at: float, timeout_s: float
    ) -> Reply | Fault:
        """Send one request from a place that was given at ``sent_at``, and give the place back."""
        try:
            reply = await self._send(http, body, timeout_s)
            if isinstance(reply, Fault) and reply.congestion:
                self._places.congested(sent_at, reply.retry_after_s)
            elif isinstance(reply, Reply) or reply.retry:
                self._places.succeeded()
            if isinstance(reply, Reply):
                self._answered += 1
                self._given_up_in_a_row = 0
        finally:
            self._places.release()
        return reply

    async def _send(self, http: aiohttp.ClientSession, body: bytes, timeout_s: float) -> Reply | Fault:
        """One request over the wire. Every way in which it can go wrong is a fault, never an exception."""
        import aiohttp

        data = body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body)
        timeout = aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=1e9)
        try:
            async with http.post(
                f"{self.base_url}/chat/completions", data=data, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raw = await _read(response)
                    header = response.headers.get("Retry-After")
                    fault = wire.read_error(response.status, raw, header, time.time())
                    return self._scrubbed(fault)
                if self._stream and response.content_type == "text/event-stream":
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
        if isinstance(reply, Fault) and len(self._secret) >= 4 and self._secret in reply.detail:
            return Fault(
                reply.kind,
                reply.detail.replace(self._secret, "***"),
                reply.retry,
                reply.congestion,
                reply.retry_after_s,
                reply.refused,
            )
        return reply

    # ---- when the endpoint, not the prompt, is at fault ----------------------------------------------------------

    def _check_refusal(self, fault: Fault, answered_before: int) -> None:
        """Raise if a refusal, now confirmed, is about the endpoint: nothing was answered between its two attempts."""
        one_prompt_only = fault.kind == "http-403" and self._answered > 0  # moderation
        if self._answered == answered_before and not one_prompt_only:
            raise ProviderError(
                f"{self.base_url} refuses requests for model {self.model!r}: {fault.detail}; "
                "check the address, the name of the model and the key"
            )

    def _give_up(self, fault: Fault) -> None:
        """A prompt is given up. Raise if it is one of several in a row: then going on would only lose more."""
        self._given_up_in_a_row += 1
        if fault.kind == "unreachable" or self._given_up_in_a_row >= _GIVE_UP_AFTER:
            raise ProviderError(
                f"{self.base_url} answers nothing any more (last: {fault.detail}); what was answered is kept: "
                "run the same command again when it is back"
            )


def _next_refused(refused: str, left_out: frozenset[str]) -> str:
    """What to leave out next after a refusal, or "" if that cannot help."""
    if refused == "json_schema" and refused in left_out:
        refused = "json_object"
    return "" if refused in left_out else refused


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
