"""Answers of the model at work, between steps: greedy for the watch, sampled for the preflight. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_mixup.prompts import Messages


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

    Prompts of like length are computed together, on the model's device.
    """
    import torch

    shown = [tokenizer.apply_chat_template(list(p), tokenize=False, add_generation_prompt=True) for p in prompts]
    order = sorted(range(len(shown)), key=lambda i: -len(shown[i]))
    made: dict[int, Answer] = {}
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    state = torch.get_rng_state()
    was_training = model.training
    model.eval()
    try:
        torch.manual_seed(seed)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            texts = [shown[i] for i in chosen]
            inputs = tokenizer(
                texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
            ).to(model.device)
            with torch.inference_mode():
                out = model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    pad_token_id=tokenizer.pad_token_id,
                    **(sampling if temperature > 0 else {"do_sample": False}),
                )
            width = inputs["input_ids"].shape[1]
            made |= {i: _answer(tokenizer, row[width:].tolist()) for i, row in zip(chosen, out, strict=True)}
    finally:
        model.train(was_training)
        torch.set_rng_state(state)
    return [made[i] for i in range(len(shown))]


def _answer(tokenizer: Any, ids: list[int]) -> Answer:
    ended = tokenizer.eos_token_id in ids
    kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept), not ended)
