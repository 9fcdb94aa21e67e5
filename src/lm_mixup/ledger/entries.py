"""What stands in a ledger: requests, answers, attempts, and sums over them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import orjson

from lm_mixup.ledger.budget import Reservation
from lm_mixup.ports import Prompt

ANSWERED = "answer"
"""The outcome of an attempt that brought an answer; every other outcome names a kind of failure."""

LOST = "cut-off-on-the-way"
"""The outcome of an attempt whose process ended before it had one: it is charged at its worst case."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: its ``key`` (32 hex digits), the model's key, and everything else as canonical JSON."""

    key: str
    model: str
    body: str

    @classmethod
    def of(cls, model: str, prompt: Prompt) -> Self:
        """The request that ``prompt`` is to the model with the key ``model``. The prompt's id is no part of it."""
        asked = {
            "messages": prompt.messages,
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "repetition_penalty": prompt.repetition_penalty,
            "stop": prompt.stop,
            "seed": prompt.seed,
            "schema": prompt.schema,
        }
        if prompt.logprobs:
            asked["logprobs"] = prompt.logprobs
        # dict: other mappings are written as objects too
        body = orjson.dumps(asked, default=dict, option=orjson.OPT_SORT_KEYS)
        hashed = hashlib.blake2b(body, key=_hash_key(model), digest_size=16)
        return cls(hashed.hexdigest(), model, body.decode())


@functools.lru_cache(maxsize=64)
def _hash_key(model: str) -> bytes:
    return hashlib.blake2b(model.encode()).digest()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Tokens are None where the server did not say, the price (US dollars) where it is unknown.

    ``attempts`` is how many requests were sent for it, the good one included; ``latency_s`` the good one's seconds.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    price_usd: float | None = None
    attempts: int = 1
    latency_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was sent. ``outcome`` is :data:`ANSWERED` or a kind of failure such as ``http-429``.

    ``detail`` holds no secret: whoever records an attempt has taken keys and addresses out. ``billed``: the server may
    have worked for it (a cut-off answer, a timeout), so that a budget counts its worst case.
    """

    outcome: str
    detail: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    price_usd: float | None = None
    latency_s: float = 0.0
    billed: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """An attempt to be kept, with its answer if it brought one (then ``answer_row`` is its row)."""

    request: Request
    attempt: Attempt
    ended_at: float
    answer: Answer | None = None
    answer_row: tuple[Any, ...] = ()
    reserved: Reservation | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of keys that were opened: answered before, claimed by the caller now, or held by another owner."""

    answers: Mapping[str, Answer]
    claimed: frozenset[str]
    held: frozenset[str]


@dataclass(frozen=True, slots=True)
class Usage:
    """The account of a ledger: sums over what is known.

    ``unknown_tokens`` and ``unknown_price`` count the attempts that brought an answer without them.
    """

    attempts: int
    answers: int
    prompt_tokens: int
    completion_tokens: int
    price_usd: float
    unknown_tokens: int
    unknown_price: int
    outcomes: Mapping[str, int]
