"""Before hours are spent: can anything be learned here, how long will it take, how much memory? METHOD § 3."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lm_mixup.ports import Embedder
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.rewards import Scored
from lm_mixup.training import base
from lm_mixup.training.begin import begin
from lm_mixup.training.data import Example
from lm_mixup.training.generation import Answer
from lm_mixup.training.recipe import GRPOSettings, TrainRecipe
from lm_mixup.training.reward import make_scorer

PASSES = 3.0
"""Training on a token costs about so many forward passes: one for itself, two for the gradients."""
MOST_WITHOUT_SPREAD = 0.75
LEAST_FORMAT = 0.5
MOST_CUT = 0.5
MOST_UNSCORED = 0.2
_FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class Report:
    """What the sampled groups showed.

    ``spread``: mean standard deviation of the reward within a group. ``without_spread``: share of groups whose rollouts
    all have the same reward, and so no advantage. ``components``: mean and spread within groups of each part of the
    reward. ``tokens`` are those of an answer. ``seconds_a_step`` and ``memory_gb`` are estimates for the whole
    training on this machine; ``refused`` says why nothing can be learned ("" where something can).
    """

    groups: int
    rollouts: int
    reward: float | None
    spread: float | None
    without_spread: float
    components: dict[str, dict[str, float | None]]
    format_pass: float
    unscored: float
    tokens: float
    cut: float
    seconds_a_step: float
    hours: float
    memory_gb: float
    refused: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def as_text(self) -> str:
        """As lines for people."""
        shown = "\n".join(
            f"  {name:<10} mean {part['mean']:.3f}   spread in a group {_shown(part['spread'])}"
            for name, part in self.components.items()
        )
        return (
            f"{self.rollouts} rollouts in {self.groups} groups\n"
            f"reward      mean {_shown(self.reward)}, spread in a group {_shown(self.spread)}, "
            f"groups without spread {self.without_spread:.0%}\n"
            f"{shown}\n"
            f"answers     {self.tokens:.0f} tokens, {self.cut:.0%} cut, {self.format_pass:.0%} in the right form, "
            f"{self.unscored:.0%} without a score\n"
            f"training    about {self.seconds_a_step:.0f} s a step, {self.hours:.1f} h in all, {self.memory_gb:.1f} GB"
        )


def preflight(
    data: Path | str,
    recipe: TrainRecipe,
    *,
    start: Path,
    cache_dir: Path,
    embedder: Embedder,
    library: RatedLibrary | None,
    groups: int = 16,
    max_steps: int | None = None,
) -> Report:
    """Sample groups of rollouts from the model in ``start``, score them, and time a training pass over them.

    Raises as :func:`lm_mixup.training.grpo.train_grpo`.
    """
    begun = begin(data, recipe, start=start, cache_dir=cache_dir)
    tokenizer, found = begun.tokenizer, begun.found
    rows = [row for row in found.examples[:groups] for _ in range(recipe.grpo.rollouts)]
    scorer = make_scorer(recipe.rewards, embedder, library)
    model = begun.model()
    started = time.perf_counter()
    at_once = recipe.grpo.prompts * recipe.grpo.rollouts
    answers, drawn = begun.draw(model, found.examples[:groups], batch=at_once, seed=recipe.seed)
    scored = scorer.score(drawn)
    rated = time.perf_counter()
    trained = _training_seconds(model, tokenizer, rows, answers, recipe.grpo)
    a_rollout = (rated - started) / len(rows) + trained
    a_step = a_rollout * recipe.grpo.mini_batch * recipe.grpo.rollouts
    steps = max_steps or math.ceil(len(found.examples) * recipe.grpo.epochs / recipe.grpo.mini_batch)
    return report_of(scored, answers, recipe.grpo.rollouts, a_step=a_step, steps=steps, memory_gb=_peak_memory_gb())


def _training_seconds(
    model: Any, tokenizer: Any, rows: Sequence[Example], answers: Sequence[Answer], settings: GRPOSettings
) -> float:
    """Seconds a rollout for the gradients: a pass over as many tokens as a batch has, forward and back, and the
    reference's pass where there is a KL.
    """
    import torch

    shown = [
        tokenizer.apply_chat_template([*row.prompt, {"role": "assistant", "content": answer.text}], tokenize=False)
        for row, answer in zip(rows[: settings.batch], answers, strict=False)
    ]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in shown]
    computed = sum(lengths)
    if settings.shared_prompts:  # each prompt once for its group
        own = sum(answer.tokens for answer in answers[: len(shown)])
        computed = own + round((computed - own) / settings.rollouts)
    taken = max(1, round(computed / (sum(lengths) / len(lengths))))
    inputs = tokenizer(shown[:taken], return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
    labels = inputs["input_ids"].clone()
    labels[:, : -max(answer.tokens for answer in answers[:taken])] = -100
    base.make_quick(model)
    fused = {"fused_lm_head": True} if model.device.type == "cpu" else {}
    model.train()
    started = time.perf_counter()
    with base.in_stored_type(model):
        if settings.kl:
            with torch.no_grad():
                model(**inputs, logits_to_keep=1)
        model(**inputs, labels=labels, **fused).loss.backward()
    model.zero_grad()
    return (time.perf_counter() - started) * computed / sum(lengths[:taken]) / len(shown)


def report_of(
    scored: Sequence[Scored],
    answers: Sequence[Answer],
    size: int,
    *,
    a_step: float,
    steps: int,
    memory_gb: float,
) -> Report:
    """The report on rollouts in groups of ``size``, one after another; ``a_step`` in seconds."""
    rewards = np.array([math.nan if one.total is None else one.total for one in scored]).reshape(-1, size)
    known = np.isfinite(rewards)
    pairs = known.sum(axis=1) >= 2
    spreads = np.array([np.std(row[ok]) for row, ok in zip(rewards[pairs], known[pairs], strict=True)])
    flat = float(np.mean(np.append(spreads < _FLAT, np.ones(int((~pairs).sum()), dtype=bool))))
    report = Report(
        groups=len(rewards),
        rollouts=len(scored),
        reward=float(np.mean(rewards[known])) if known.any() else None,
        spread=float(np.mean(spreads)) if len(spreads) else None,
        without_spread=flat,
        components=_components(scored, size),
        format_pass=float(np.mean([(one.components.get("format") or 0.0) == 1.0 for one in scored])),
        unscored=float(np.mean(~known)),
        tokens=float(np.mean([answer.tokens for answer in answers])),
        cut=float(np.mean([answer.cut for answer in answers])),
        seconds_a_step=a_step,
        hours=a_step * steps / 3600,
        memory_gb=memory_gb,
    )
    return Report(**{**asdict(report), "refused": tuple(_refusals(report))})


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _refusals(report: Report) -> list[str]:
    reasons = []
    if report.without_spread > MOST_WITHOUT_SPREAD:
        reasons.append(
            f"{report.without_spread:.0%} of the groups have one reward for all rollouts, and so no advantage: raise "
            "grpo.temperature or grpo.rollouts, or make rewards continuous (rewards.quality_map, rewards.alignment_map)"
        )
    if report.format_pass < LEAST_FORMAT:
        reasons.append(
            f"{report.format_pass:.0%} of the answers have the form that is asked for: train the cold start longer"
        )
    if report.cut > MOST_CUT:
        reasons.append(
            f"{report.cut:.0%} of the answers are cut at grpo.max_new_tokens: raise it, or lower data.max_tokens"
        )
    if report.unscored > MOST_UNSCORED:
        reasons.append(f"{report.unscored:.0%} of the answers cannot be scored: does the library hold every task type?")
    return reasons


def _components(scored: Sequence[Scored], size: int) -> dict[str, dict[str, float | None]]:
    figures: dict[str, dict[str, float | None]] = {}
    for name in ("quality", "alignment", "format", "coverage", "grounding"):
        values = np.array([math.nan if (v := one.components.get(name)) is None else v for one in scored])
        if np.isfinite(values).any():
            groups = values.reshape(-1, size)
            whole = groups[np.isfinite(groups).all(axis=1)]
            figures[name] = {
                "mean": float(np.nanmean(values)),
                "spread": float(np.mean(np.std(whole, axis=1))) if len(whole) else None,
            }
    return figures


def _peak_memory_gb() -> float:
    """Peak memory of this process so far, its training pass included, or of the GPU."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 1e9)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)
