"""Answers of the model at work: greedy for the watch, sampled for GRPO and its preflight. Needs torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lm_mixup.prompts import Messages
from lm_mixup.training.base import in_stored_type

_LEAVE = 0.25
"""Answers that ended are taken out of the computation once they are this share of it: each time copies the cache."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, its tokens, and whether it was cut at the limit."""

    text: str
    tokens: int
    cut: bool


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Messages],
    *,
    max_new_tokens: int,
    batch: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Answer]:
    """An answer for each prompt, in order; ``temperature`` 0 is greedy. Torch's own random state stays as it was.

    Prompts of like length are computed together, ``batch`` at a time, on the model's device; equal ones are read once.
    """
    import torch

    ids = [
        tokenizer.apply_chat_template(list(p), tokenize=True, add_generation_prompt=True, return_dict=True)["input_ids"]
        for p in prompts
    ]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    made: dict[int, Answer] = {}
    state = torch.get_rng_state()
    was_training = model.training
    model.eval()
    try:
        torch.manual_seed(seed)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            found = decode(
                model,
                [ids[i] for i in chosen],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                ends={tokenizer.eos_token_id},
            )
            made |= {i: _answer(tokenizer, row) for i, row in zip(chosen, found, strict=True)}
    finally:
        model.train(was_training)
        torch.set_rng_state(state)
    return [made[i] for i in range(len(ids))]


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    ends: Collection[int],
) -> list[list[int]]:
    """The tokens of an answer to each prompt, its end token included where it came within the limit.

    Equal prompts are read once, which for a group of four is a quarter of the reading; answers that ended are not
    computed further. Drawn from torch's random state: the same state gives the same answers.
    """
    import torch

    distinct = list(dict.fromkeys(map(tuple, prompts)))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    device = model.device
    width = max(map(len, distinct))
    ids = torch.zeros(len(distinct), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(distinct):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    stop = torch.tensor(sorted(ends), device=device)
    answers: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode(), merged(model), in_stored_type(model):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        cache, rows = out.past_key_values, list(range(len(prompts)))
        pick = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
        cache.batch_select_indices(pick)
        mask, position, logits = mask[pick], positions[pick, -1:], out.logits[pick, -1]
        ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        for _ in range(max_new_tokens):
            token = _next(logits, temperature)
            for row, one, done in zip(rows, token.tolist(), ended.tolist(), strict=True):
                if not done:
                    answers[row].append(one)
            ended |= torch.isin(token, stop)
            if bool(ended.all()):
                break
            if float(ended.float().mean()) >= _LEAVE:
                kept = (~ended).nonzero().squeeze(-1)
                cache.batch_select_indices(kept)
                mask, position, token, ended = mask[kept], position[kept], token[kept], ended[kept]
                rows = [rows[i] for i in kept.tolist()]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            position = position + 1
            out = model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = out.logits[:, -1]
    return answers


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """The adapter added to its model's weights, and taken away again to the last bit.

    A step of sampling is hundreds of small products, two thirds of them the adapter's: so they are none. In bfloat16
    the sums are rounded, as they are wherever a trained adapter is merged.
    """
    if not hasattr(model, "peft_config"):
        yield
        return
    layers = [layer for layer in model.modules() if hasattr(layer, "get_delta_weight")]
    weights = [layer.get_base_layer().weight for layer in layers]
    kept = [weight.data for weight in weights]
    try:
        for layer, weight in zip(layers, weights, strict=True):
            added = sum(layer.get_delta_weight(name).float() for name in layer.active_adapters)
            weight.data = (weight.data.float() + added).to(weight.dtype)
        with model.disable_adapter():
            yield
    finally:
        for weight, before in zip(weights, kept, strict=True):
            weight.data = before


def _next(logits: Any, temperature: float) -> Any:
    """A token for each row: the likeliest, or a draw.

    A draw is one number a row, looked up in the running sum of the chances: torch's multinomial draws one for each
    token of the vocabulary, which took a third of the sampling's time on a CPU.
    """
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(logits.float() / temperature, dim=-1).cumsum(-1)
    drawn = torch.rand(len(sums), 1, device=sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, drawn, right=True).squeeze(-1).clamp(max=sums.shape[-1] - 1)


def _answer(tokenizer: Any, ids: list[int]) -> Answer:
    ended = tokenizer.eos_token_id in ids
    kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept), not ended)
