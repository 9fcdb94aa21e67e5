"""Any endpoint that speaks the OpenAI chat-completions protocol: OpenAI, vLLM, Ollama, llama.cpp, most gateways."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from lm_mixup.errors import InputError, ProviderError
from lm_mixup.ledger import Answer, Attempt, Budget, Ledger, Price, Purse, Request, Reservation
from lm_mixup.ledger.budget import TEMPLATE_TOKENS
from lm_mixup.llm import openai_wire as wire
from lm_mixup.llm.conveyor import Conveyor, Errand
from lm_mixup.llm.endpoint import Endpoint
from lm_mixup.llm.limits import Backoff, Concurrency, Rate
from lm_mixup.llm.openai_wire import Fault, Reply
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure, digest

if TYPE_CHECKING:
    from lm_mixup.llm.lines import Lines

OPENAI_URL = "https://api.openai.com/v1"

_log = logging.getLogger(__name__)

_ROUNDS_AT_ONCE = 16  # a call ends when its last answer is in: until then, places stand empty
_GIVE_UP_AFTER = 3  # prompts given up in a row, with no answer between them: the endpoint is at fault, not the prompts
_CONFIRM_S = 0.5
_REFUSALS = frozenset({"http-401", "http-403", "http-404", "http-405", "no-quota"})


_NO_CAPS = Budget()
_HERE = contextlib.nullcontext()


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
    (``{"top_k": 1}``, ``{"reasoning_effort": "low"}``). ``price`` is None where unknown. ``budget`` caps what may be
    spent in dollars, tokens and requests (:mod:`lm_mixup.ledger.budget`). ``context_tokens`` is the model's window
    (None: unknown, the server refuses what does not fit).

    The key (``api_key``) goes into the Authorization header and nowhere else. One event loop at a time.

    Raises :class:`InputError` for an address that cannot be used, :class:`ProviderError` and (from the ledger)
    :class:`StorageError` while answering, :class:`BudgetError` where a cap is reached.
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
        budget: Budget = _NO_CAPS,
        context_tokens: int | None = None,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not model:
            raise InputError("expected the name of a model, got an empty one")
        self.model = model
        self._endpoint = Endpoint(base_url, api_key)
        self.base_url = self._endpoint.base_url
        self._ledger = ledger
        self._offline = offline
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_attempts = max_attempts
        self._backoff = backoff or Backoff()
        self._stream = stream
        self.context_tokens = context_tokens
        self._extra_body = dict(extra_body)
        self._clock = clock
        self._places = Concurrency(concurrency, clock)
        self._requests = Rate(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = Rate(tokens_per_minute, clock) if tokens_per_minute else None
        asked_for = {"auto": (), "json_schema": (), "json_object": ("json_schema",)}
        self._left_out: frozenset[str] = frozenset(asked_for.get(json_schema, ("json_schema", "json_object")))
        self._purse = Purse(self.key, ledger=ledger, budget=budget, price=price)
        self._answered = 0
        self._given_up_in_a_row = 0

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

    @property
    def at_once(self) -> int:
        """How many prompts a call should bring at least, where that is for the caller to choose."""
        return _ROUNDS_AT_ONCE * self._places.maximum

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """An answer, or a failure, for each prompt, in their order."""
        return [answer async for answer in self.stream(prompts, window=max(1, len(prompts)))]

    async def stream(self, prompts: Iterable[Prompt], *, window: int = 4096) -> AsyncIterator[Completion | Failure]:
        """The same one by one, in the order of the prompts, with at most ``window`` of them in memory."""
        async with self._endpoint.lines() as lines:

            async def ask(errand: Errand) -> tuple[Answer | Fault, Reservation | None]:
                return (
                    (self._recorded_failure(errand.request), None) if self._offline else await self._ask(lines, errand)
                )

            conveyor = Conveyor(
                prompts, ask, model=self.key, ledger=self._ledger, at_once=self._places.maximum, window=window
            )
            async with contextlib.aclosing(conveyor.results()) as results:
                async for result in results:
                    yield result

    # ---- connections -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._endpoint.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._endpoint.aclose()

    async def aclose(self) -> None:
        """Close the connections that are kept; the next call opens new ones."""
        await self._endpoint.aclose()

    # ---- one prompt --------------------------------------------------------------------------------------------

    def _recorded_failure(self, request: Request) -> Fault:
        """What the ledger says of a request that it holds no answer for: its last failure, if it was ever asked."""
        last = self._ledger.failure(request.key) if self._ledger else None
        if last is None:
            return Fault("not-in-ledger", "asked offline, and the ledger holds no answer", retry=False)
        return Fault(last.outcome, last.detail, retry=False)

    async def _ask(self, lines: Lines, errand: Errand) -> tuple[Answer | Fault, Reservation | None]:
        """One prompt's answer with what was reserved for it, or the fault of its last attempt."""
        prompt, request = errand.prompt, errand.request
        deadline: float | None = None
        refused, attempts, failures = frozenset[str](), 0, 0
        last = Fault("deadline", f"not answered within {self._deadline_s:g} s")
        answered_at_refusal: int | None = None
        while True:
            left_out = self._left_out | refused
            body = wire.request_body(self.model, prompt, left_out, stream=self._stream, extra=self._extra_body)
            # no tokenizer makes more tokens than bytes
            with errand.aside() if self._purse.waits else _HERE:
                reserved = await self._purse.reserve(request.key, len(body) + TEMPLATE_TOKENS, prompt.max_tokens)
            try:
                sent_at = await self._place(len(body) / 4 + prompt.max_tokens, ahead=answered_at_refusal is not None)
            except asyncio.CancelledError:
                self._purse.give_back(reserved)
                raise
            deadline = sent_at + self._deadline_s if deadline is None else deadline
            if sent_at >= deadline:
                self._places.release()
                self._purse.give_back(reserved)
                return last, None
            self._purse.leaves(request.key, reserved)
            reply = await self._attempt(lines, body, sent_at, min(self._timeout_s, deadline - sent_at))
            attempts += 1
            latency_s = self._clock() - sent_at
            if isinstance(reply, Reply):
                self._left_out |= refused  # confirmed: without them it works
                self._correct_tokens(reply, len(body) / 4 + prompt.max_tokens)
                return self._answer(reply, left_out, attempts, latency_s), reserved
            last = reply
            errand.note(Attempt(reply.kind, reply.detail, latency_s=latency_s, billed=reply.billed), reserved)
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
                    with errand.aside():
                        await asyncio.sleep(_CONFIRM_S)
                    continue
                self._check_refusal(reply, answered_at_refusal)
                return reply, None
            failures += 1
            if not reply.retry:
                return reply, None
            wait_s = self._backoff.seconds(failures, reply.retry_after_s)
            if failures >= self._max_attempts or self._clock() + wait_s >= deadline:
                self._give_up(reply)
                return reply, None
            with errand.aside():
                await asyncio.sleep(wait_s)

    def _answer(self, reply: Reply, left_out: frozenset[str], attempts: int, latency_s: float) -> Answer:
        price = self._purse.price_of(reply.prompt_tokens, reply.completion_tokens)
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

    async def _attempt(self, lines: Lines, body: bytes, sent_at: float, timeout_s: float) -> Reply | Fault:
        """Send one request from a place that was given at ``sent_at``, and give the place back."""
        try:
            reply = await self._endpoint.ask(lines, body, timeout_s, stream=self._stream)
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
