"""GRPO that reads each prompt once for its whole group: the same losses, for half the work. Needs TRL.

TRL computes every rollout with its own copy of the prompt, in sampling and in training. Here most of a row is prompt
(the cluster), and a group has four rollouts. So the rollouts of a group are laid behind one prompt, in one
sequence, where each sees the prompt and itself alone::

    positions   0 … p-2   | p-1 p   p+1 … | p-1 p   p+1 …
    tokens      the prompt| end a₁  a₂  … | end b₁  b₂  …    end: the last of the prompt, which predicts the first

This overrides two methods of the pinned TRL that are not its public interface (``pyproject.toml`` says which version);
``tests/training/test_shared_prompts.py`` holds them to TRL's own figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl import GRPOTrainer

from lm_mixup.training.generation import decode

_NO_LABEL = -100


class SharedPromptsTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL is untyped here
    """TRL's trainer, for text alone and without vLLM."""

    def _generate_single_turn(
        self, prompt_ids: Sequence[Sequence[int]], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], None]:
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        try:
            answers = decode(
                model,
                prompt_ids,
                max_new_tokens=self.max_completion_length,
                temperature=self.temperature,
                ends=set(self.eos_token_ids),
            )
        finally:
            model.train(was_training)
        return answers, None

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any, None]:
        width = input_ids.size(1) - logits_to_keep
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, (ids, mask) in enumerate(zip(input_ids[:, :width], attention_mask[:, :width], strict=True)):
            groups.setdefault(tuple(ids[mask.bool()].tolist()), []).append(row)
        places: list[tuple[int, int]] = []
        found: list[tuple[Any, Any]] = []
        for prompt, rows in groups.items():
            answers = [input_ids[row, width:][attention_mask[row, width:].bool()] for row in rows]
            found += _group(model, self.accelerator, prompt, answers)
            places += [(row, len(answer)) for row, answer in zip(rows, answers, strict=True)]
        order = sorted(range(len(places)), key=lambda i: places[i][0])
        logps, entropies = (
            torch.stack([torch.nn.functional.pad(found[i][part], (0, logits_to_keep - places[i][1])) for i in order])
            for part in (0, 1)
        )
        return logps, entropies if compute_entropy else None, None


def _group(model: Any, accelerator: Any, prompt: Sequence[int], answers: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Log-probabilities and entropies of each answer's tokens, behind one prompt."""
    device = answers[0].device
    shared, end = torch.tensor(prompt[:-1], device=device), torch.tensor(prompt[-1:], device=device)
    lengths = [len(answer) for answer in answers]
    ids = torch.cat([shared, *(part for answer in answers for part in (end, answer[:-1]))])
    labels = torch.cat([torch.full_like(shared, _NO_LABEL), *answers])
    spans = [torch.arange(len(shared), device=device)]
    spans += [torch.arange(len(shared), len(shared) + length, device=device) for length in lengths]
    owner = torch.cat([torch.full_like(span, number) for number, span in enumerate(spans)])
    sees = (owner[None, :] == 0) | (owner[None, :] == owner[:, None])
    sees &= torch.ones_like(sees).tril()
    with accelerator.autocast():
        out = model(
            input_ids=ids[None],
            attention_mask=sees[None, None],
            position_ids=torch.cat(spans)[None],
            shift_labels=labels[None],
            fused_lm_head=True,
        )
    own = slice(len(shared), None)
    return list(zip(out.log_probs[0, own].split(lengths), out.entropy[0, own].split(lengths), strict=True))
