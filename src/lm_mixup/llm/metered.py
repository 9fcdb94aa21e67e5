"""A language model that is watched: what each record cost, by the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lm_mixup.ledger import Ledger, Request
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.records import Failure


@dataclass
class Cost:
    """What was asked about one record so far. ``usd`` is None once a price is unknown; ``seconds`` are of waiting."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0


class Metered:
    """``inner`` with a meter: :attr:`costs` holds what each record's id cost, asked now or found in the ledger."""

    def __init__(self, inner: LLM, ledger: Ledger) -> None:
        self._inner = inner
        self._ledger = ledger
        self.costs: dict[str, Cost] = {}
        own: Callable[[str], int] | None = getattr(inner, "count_tokens", None)
        if own is not None:
            self.count_tokens = own
        self.context_tokens: int | None = getattr(inner, "context_tokens", None)
        self.at_once: int | None = getattr(inner, "at_once", None)
        concurrency = getattr(inner, "concurrency", None)
        self.in_parallel: int = concurrency.maximum if concurrency is not None else 1

    @property
    def key(self) -> str:
        """The model's own."""
        return self._inner.key

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """The model's answers; what they cost is added up."""
        answers = await self._inner.complete(prompts)
        keys = [Request.of(self.key, prompt).key for prompt in prompts]
        known = self._ledger.answers(keys)
        for prompt, key in zip(prompts, keys, strict=True):
            cost = self.costs.setdefault(prompt.id, Cost())
            answer = known.get(key)
            if answer is None:  # failed, or a model that keeps no ledger
                cost.requests += 1
                cost.usd = None
                continue
            cost.requests += answer.attempts
            cost.prompt_tokens += answer.prompt_tokens or 0
            cost.completion_tokens += answer.completion_tokens or 0
            cost.seconds += answer.latency_s
            usd = answer.price_usd
            cost.usd = None if cost.usd is None or usd is None else cost.usd + usd
        return answers
