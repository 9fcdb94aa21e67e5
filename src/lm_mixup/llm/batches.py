"""How local models answer many prompts: in batches that the prompts alone decide, through the ledger.

A batch is computed together, and floating-point sums can differ in their last bits with what is beside them, so that a
prompt's wording may depend on its batch. Hence (1) a batch size of one is the default; (2) batches are cut from the
whole list of prompts, answered or not, so that a repeated call makes the same ones; (3) what the ledger holds stays as
it is. An engine whose answers do not depend on their batch (:mod:`lm_mixup.llm.openvino_slots`) computes only what the
ledger lacks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from lm_mixup.ledger import Answer, Attempt, Budget, Ledger, Price, Purse, Request, Reservation
from lm_mixup.ledger.budget import TEMPLATE_TOKENS
from lm_mixup.llm.conveyor import completion_of
from lm_mixup.llm.openai_wire import Fault
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure

FREE = Price(0.0, 0.0, "runs on this machine")

_WINDOW_BATCHES = 16
"""Prompts are sorted by length within so many batches of the given order: little padding, and bounded look-ahead."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a local model made of one prompt."""

    text: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    left_out: tuple[str, ...] = ()


Generate = Callable[[Sequence[Prompt]], Sequence[Generated | Fault]]
"""Answers one batch, whose prompts share all settings. Runs in a thread; one batch at a time."""


def batches_of(prompts: Sequence[Prompt], size: int) -> list[list[int]]:
    """Positions of the prompts, batch by batch: the same settings in a batch, lengths near each other."""
    batches: list[list[int]] = []
    window = size * _WINDOW_BATCHES
    for start in range(0, len(prompts), window):
        groups: dict[bytes, list[int]] = {}
        for position in range(start, min(start + window, len(prompts))):
            groups.setdefault(_settings(prompts[position]), []).append(position)
        for group in groups.values():
            group.sort(key=lambda position: (-_length(prompts[position]), position))
            batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches


async def complete_in_batches(
    prompts: Sequence[Prompt],
    generate: Generate,
    *,
    model: str,
    ledger: Ledger | None,
    batch_size: int,
    budget: Budget = Budget(),  # noqa: B008 it is frozen
    independent: bool = False,
) -> list[Completion | Failure]:
    """The answers in the order of the prompts. A batch that the ledger answers in full is not computed.

    ``independent``: an answer does not depend on its batch, so that of a batch only what is missing is computed, once.
    Tokens and requests count towards ``budget``, dollars do not. Raises :class:`BudgetError` where a cap is reached.
    """
    answers: dict[int, Answer | Fault] = {}
    purse = Purse(model, ledger=ledger, budget=budget, price=FREE)
    for batch in batches_of(prompts, batch_size):
        requests = {position: Request.of(model, prompts[position]) for position in batch}
        keys = [request.key for request in requests.values()]
        known = ledger.answers(keys) if ledger else {}
        if len(known) == len(set(keys)):
            answers.update({position: known[request.key] for position, request in requests.items()})
            continue
        if ledger is not None:
            await ledger.open(keys, [prompts[position].id for position in batch])
        missing = [position for position in batch if requests[position].key not in known]
        wanted = list({requests[position].key: position for position in reversed(missing)}.values())[::-1]
        if not independent:
            wanted = batch
        reserved: dict[int, Reservation] = {}
        for position in wanted:
            request = requests[position]
            if request.key not in known:
                worst = (len(request.body.encode()) + TEMPLATE_TOKENS, prompts[position].max_tokens)
                reserved[position] = await purse.reserve(request.key, *worst)
        began = time.monotonic()
        made = await _generated([prompts[position] for position in wanted], generate)
        share_s = (time.monotonic() - began) / len(wanted)
        fresh: dict[str, Answer | Fault] = dict(known)
        for position, new in zip(wanted, made, strict=True):
            request = requests[position]
            answers[position] = known.get(request.key) or await _kept(
                request, new, share_s, ledger, reserved.get(position)
            )
            fresh[request.key] = answers[position]
        for position in batch:
            answers.setdefault(position, fresh[requests[position].key])
    return [completion_of(prompt, answers[position]) for position, prompt in enumerate(prompts)]


async def _generated(batch: list[Prompt], generate: Generate) -> list[Generated | Fault]:
    """One batch's answers; where the whole batch fails (memory), each prompt is tried by itself."""
    try:
        return list(await asyncio.to_thread(generate, batch))
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1:
            return [Fault("model-error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", retry=False)]
    return [answer for prompt in batch for answer in await _generated([prompt], generate)]


async def _kept(
    request: Request, made: Generated | Fault, seconds: float, ledger: Ledger | None, reserved: Reservation | None
) -> Answer | Fault:
    if isinstance(made, Fault):
        if ledger is not None:
            await ledger.record_failure(request, Attempt(made.kind, made.detail, latency_s=seconds), reserved)
            await ledger.release([request.key])
        return made
    details = {"left_out": list(made.left_out)} if made.left_out else {}
    answer = Answer(
        made.text,
        made.finish_reason,
        made.prompt_tokens,
        made.completion_tokens,
        price_usd=0.0,
        latency_s=seconds,
        details=details,
    )
    return await ledger.record(request, answer, reserved) if ledger is not None else answer


def _settings(prompt: Prompt) -> bytes:
    """Everything that the prompts of a batch must share."""
    sampling = [prompt.max_tokens, prompt.temperature, prompt.top_p, prompt.repetition_penalty, prompt.seed]
    schema = None if prompt.schema is None else dict(prompt.schema)
    return orjson.dumps([sampling, list(prompt.stop), schema], option=orjson.OPT_SORT_KEYS)


def _length(prompt: Prompt) -> int:
    return sum(len(str(message.get("content", ""))) for message in prompt.messages)
