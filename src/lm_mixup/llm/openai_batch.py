"""A provider's batch endpoint (OpenAI's Batch API): half the price, answers within a day, nothing kept open meanwhile.

Requests are uploaded as one JSONL file, become a batch, and are fetched when the provider is done. What is handed over
stands in the ledger before it is sent, so that a process may end at any moment and another goes on days later: an open
batch is fetched, never submitted again. What failed within a batch goes into the next one.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import orjson

from lm_mixup.errors import BudgetError, InputError, ProviderError
from lm_mixup.ledger import Answer, Attempt, Budget, Ledger, Price, Purse, Request, Reservation
from lm_mixup.ledger.batches import Batch
from lm_mixup.ledger.budget import TEMPLATE_TOKENS
from lm_mixup.llm import openai_wire as wire
from lm_mixup.llm.batch_files import BatchFiles
from lm_mixup.llm.conveyor import completion_of
from lm_mixup.llm.endpoint import Endpoint
from lm_mixup.llm.openai_wire import Fault, Reply
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure, digest

if TYPE_CHECKING:
    import aiohttp

MAX_REQUESTS = 50_000
MAX_BYTES = 100 * 2**20
"""Of one batch. OpenAI's limits are 50,000 requests and 200 MB."""

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_NO_CAPS = Budget()
_TOGETHER = 4096  # writes that wait for the same commits of the ledger, instead of each for its own
_ABSENT = Fault("not-in-ledger", "asked offline, and the ledger holds no answer", retry=False)
_MISSING = Fault("missing-from-batch", "neither the output nor the error file of the batch has it")

_log = logging.getLogger(__name__)

Wanted = Mapping[str, tuple[Request, Prompt]]
"""By key: what is asked."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One request of a batch, and its line of the file."""

    request: Request
    prompt: Prompt
    text: bytes


class OpenAIBatch:
    """The model ``model`` at the batch endpoint of ``base_url``.

    :meth:`complete` returns when all its prompts are answered, which may take a day; it looks every ``poll_s``. Give it
    many prompts at a time. A process that is ended meanwhile loses nothing. A request that fails within a batch is sent
    again, ``max_attempts`` times in all; then it is a :class:`Failure`. ``max_requests`` and ``max_bytes`` bound one
    batch.

    The answers are those of ``openai:MODEL``: they have the same key. ``price`` is per million tokens; the list price,
    where none is given, counts too much (providers give a rebate on batches), never too little.

    Raises :class:`InputError` without a ledger, :class:`ProviderError` where the endpoint refuses a batch as a whole,
    :class:`BudgetError` where a cap is reached: what was handed over before goes on at the provider.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        api_key: str | None = None,
        *,
        ledger: Ledger | None = None,
        offline: bool = False,
        price: Price | None = None,
        budget: Budget = _NO_CAPS,
        poll_s: float = 30.0,
        timeout_s: float = 120.0,
        max_attempts: int = 3,
        max_requests: int = MAX_REQUESTS,
        max_bytes: int = MAX_BYTES,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if ledger is None:
            raise InputError("a batch endpoint needs a ledger, which remembers what was handed over")
        self.model = model
        self.at_once = max_requests
        """How many prompts to give at a time: whoever cuts work into pieces should cut none smaller."""
        self._ledger = ledger
        self._offline = offline
        self._poll_s = poll_s
        self._max_attempts = max_attempts
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._extra_body = dict(extra_body)
        self._endpoint = Endpoint(base_url, api_key)
        self._files = BatchFiles(self._endpoint, timeout_s)
        self._purse = Purse(self.key, ledger=ledger, budget=budget, price=price)

    def __repr__(self) -> str:
        return f"OpenAIBatch({self.model!r}, {self._endpoint.base_url!r})"

    @property
    def key(self) -> str:
        """The same as of the model asked one by one: the answers are of the same kind."""
        extra = f"+{digest(self._extra_body)[:12]}" if self._extra_body else ""
        return f"openai:{self.model}{extra}"

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """An answer, or a failure, for each prompt, in their order."""
        requests = [Request.of(self.key, prompt) for prompt in prompts]
        wanted = {r.key: (r, p) for r, p in zip(reversed(requests), reversed(prompts), strict=True)}
        done: dict[str, Answer | Fault] = dict(self._ledger.answers(wanted))
        if self._offline:
            done |= {key: self._recorded_failure(key) for key in wanted if key not in done}
        elif len(done) < len(wanted):
            async with self._endpoint.session() as http:
                await self._answer_all(http, wanted, done)
        return [completion_of(prompt, done[r.key]) for prompt, r in zip(prompts, requests, strict=True)]

    def _recorded_failure(self, key: str) -> Fault:
        last = self._ledger.failure(key)
        return Fault(last.outcome, last.detail, retry=False) if last else _ABSENT

    async def _answer_all(self, http: aiohttp.ClientSession, wanted: Wanted, done: dict[str, Answer | Fault]) -> None:
        """Submit and fetch until every wanted key is in ``done``."""
        claimed: set[str] = set()
        failures: dict[str, int] = {}
        try:
            while missing := [key for key in wanted if key not in done]:
                claimed |= await self._claim(missing, wanted)
                under_way = self._ledger.batches.under_way(missing)
                refused = await self._submit(http, [wanted[key] for key in missing if key in claimed - under_way])
                for key, result in (await self._fetch(http)).items():
                    if isinstance(result, Fault):
                        failures[key] = failures.get(key, 0) + 1
                    if isinstance(result, Answer) or not result.retry or failures[key] >= self._max_attempts:
                        done[key] = result
                done |= self._ledger.answers([key for key in missing if key not in done])
                if refused and not self._ledger.batches.open(self.key, self._endpoint.base_url):
                    raise refused  # nothing is out there that could give back
                if any(key not in done for key in missing):
                    await asyncio.sleep(self._poll_s)
        finally:
            await self._ledger.release(sorted(claimed))

    async def _claim(self, keys: Sequence[str], wanted: Wanted) -> frozenset[str]:
        """The keys that nobody else is about to submit."""
        return (await self._ledger.open(keys, [wanted[key][1].id for key in keys])).claimed

    # ---- handing over ------------------------------------------------------------------------------------------

    async def _submit(self, http: aiohttp.ClientSession, asked: Sequence[tuple[Request, Prompt]]) -> BudgetError | None:
        """Make batches of requests and hand them over; each is written down before it is sent.

        Where a cap stands in the way, what it allows is handed over, and the error is returned.
        """
        refused: BudgetError | None = None
        for lines in self._parts(asked):
            granted, refused = await self._reserve(lines)
            if not granted:
                break
            worst = [(line.request, reserved) for line, reserved in granted]
            batch = Batch(uuid.uuid4().hex, None, self.key, self._endpoint.base_url)
            await self._ledger.open([_fetching(batch)])  # until it has its id, nobody else is to look for it
            await self._ledger.batches.begin(batch, worst)
            id_ = await self._files.create(http, b"".join(line.text for line, _ in granted), batch.token)
            await self._ledger.batches.handed_over(batch.token, id_)
            await self._ledger.release([_fetching(batch)])
            _log.info("batch %s: %d requests handed over", id_, len(worst))
            if refused:
                break
        return refused

    async def _reserve(self, lines: Sequence[_Line]) -> tuple[list[tuple[_Line, Reservation]], BudgetError | None]:
        """The lines that the caps allow, with their worst cases, and the error that another met."""
        granted: list[tuple[_Line, Reservation]] = []
        for start in range(0, len(lines), _TOGETHER):
            some = lines[start : start + _TOGETHER]
            asked = (
                self._purse.reserve_now(line.request.key, len(line.text) + TEMPLATE_TOKENS, line.prompt.max_tokens)
                for line in some
            )
            answers = await asyncio.gather(*asked)
            granted += [(line, got) for line, got in zip(some, answers, strict=True) if isinstance(got, Reservation)]
            refused = [got for got in answers if isinstance(got, BudgetError)]
            if refused:
                return granted, refused[0]
        return granted, None

    def _parts(self, asked: Sequence[tuple[Request, Prompt]]) -> Iterator[list[_Line]]:
        """Lines in parts that fit into one batch."""
        part: list[_Line] = []
        size = 0
        for request, prompt in asked:
            body = wire.request_body(self.model, prompt, (), stream=False, extra=self._extra_body)
            line = {"custom_id": request.key, "method": "POST", "url": "/v1/chat/completions"}
            text = orjson.dumps({**line, "body": orjson.Fragment(body)}) + b"\n"
            if part and (len(part) >= self._max_requests or size + len(text) > self._max_bytes):
                yield part
                part, size = [], 0
            part.append(_Line(request, prompt, text))
            size += len(text)
        if part:
            yield part

    # ---- fetching ----------------------------------------------------------------------------------------------

    async def _fetch(self, http: aiohttp.ClientSession) -> dict[str, Answer | Fault]:
        """What the batches that have ended by now say, by key; every line of it is in the ledger when this returns."""
        found: dict[str, Answer | Fault] = {}
        for batch in self._ledger.batches.open(self.key, self._endpoint.base_url):
            name = _fetching(batch)
            if not (await self._ledger.open([name])).claimed:
                continue  # another process is at it
            try:
                still_open = [b for b in self._ledger.batches.open(self.key, batch.endpoint) if b.token == batch.token]
                if still_open:
                    found |= await self._look_at(http, still_open[0])
            finally:
                await self._ledger.release([name])
        return found

    async def _look_at(self, http: aiohttp.ClientSession, batch: Batch) -> dict[str, Answer | Fault]:
        """One batch's results if it has ended, else nothing."""
        id_ = batch.id or await self._files.find(http, batch.token)
        items = self._ledger.batches.items(batch.token)
        if id_ is None:  # the process ended before the batch came to be: its requests are free again
            for reserved in items.values():
                self._purse.give_back(reserved)
            await self._ledger.batches.finish(batch.token)
            return {}
        if batch.id is None:
            await self._ledger.batches.handed_over(batch.token, id_)
        state = await self._files.state(http, id_)
        if state.get("status") not in _ENDED:
            return {}
        results = dict.fromkeys(items, _MISSING) | await self._results(http, state, items)
        kept: dict[str, Answer | Fault] = {}
        for start in range(0, len(results), _TOGETHER):
            keys = list(results)[start : start + _TOGETHER]
            kept |= zip(keys, await asyncio.gather(*(self._keep(k, results[k], items[k]) for k in keys)), strict=True)
        await self._ledger.batches.finish(batch.token)
        if state["status"] == "failed":
            raise ProviderError(
                f"{self._endpoint.base_url} failed batch {id_} for model {self.model!r}: "
                f"{self._endpoint.scrubbed(wire.excerpt(orjson.dumps(state.get('errors'))))}"
            )
        return kept

    async def _results(
        self, http: aiohttp.ClientSession, state: Mapping[str, Any], items: Mapping[str, Reservation]
    ) -> dict[str, Reply | Fault]:
        """The lines of the output and the error file, by key."""
        found: dict[str, Reply | Fault] = {}
        for name in ("error_file_id", "output_file_id"):
            if state.get(name):
                async for line in self._files.lines(http, str(state[name])):
                    key, result = _read_line(line)
                    if key in items:
                        found[key] = result
        return found

    async def _keep(self, key: str, result: Reply | Fault, reserved: Reservation) -> Answer | Fault:
        """A result as the ledger then holds it."""
        request = self._ledger.request(key)
        assert request is not None, key  # written down when the batch was handed over
        if isinstance(result, Fault):
            fault = Fault(result.kind, self._endpoint.scrubbed(result.detail), retry=result.retry)
            attempt = Attempt(fault.kind, fault.detail, billed=result.billed)
            await self._ledger.record_failure(request, attempt, reserved)
            return fault
        counts = (result.prompt_tokens, result.completion_tokens)
        details = {**result.details, "batch": True}
        answer = Answer(result.text, result.finish_reason, *counts, self._purse.price_of(*counts), details=details)
        return await self._ledger.record(request, answer, reserved)


def _fetching(batch: Batch) -> str:
    """The name under which a process claims a batch for itself."""
    return f"batch:{batch.token}"


def _read_line(line: bytes) -> tuple[str, Reply | Fault]:
    """A line of an output or an error file: its key ("" where it cannot be read) and what it says."""
    try:
        data = orjson.loads(line)
        key = str(data["custom_id"])
        response = data.get("response") or {}
        error = data.get("error")
        if error or not response:
            told = error if isinstance(error, dict) else {}
            code = str(told.get("code") or "batch-error").replace("_", "-")
            return key, Fault(code, str(told.get("message", ""))[:200])
        body = orjson.dumps(response.get("body"))
        status = int(response.get("status_code", 200))
        return key, wire.read_reply(body) if status == 200 else wire.read_error(status, body, None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", _MISSING
