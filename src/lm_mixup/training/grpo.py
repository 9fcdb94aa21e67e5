"""GRPO on top of the cold start, with our rewards. LM-Mixup § 3, METHOD § 3. Thin over TRL and PEFT."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_mixup.errors import RecipeError
from lm_mixup.ports import Embedder, Rater
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.training import base
from lm_mixup.training.artefact import write_artefact
from lm_mixup.training.begin import begin, begun_with
from lm_mixup.training.data import Example, Examples
from lm_mixup.training.faults import explained
from lm_mixup.training.folder import Folder
from lm_mixup.training.order import batched_by_length
from lm_mixup.training.recipe import TrainRecipe
from lm_mixup.training.reward import as_function, make_scorer
from lm_mixup.training.sft import PADDED, Progress, as_dataset
from lm_mixup.training.watch import Watch

KEPT = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_spread",
    "frac_reward_zero_std": "groups_without_spread",
    "kl": "kl",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "completions/mean_length": "tokens_an_answer",
    "completions/clipped_ratio": "cut",
    "reward/quality": "quality",
    "reward/alignment": "alignment",
    "reward/format": "format",
    "reward/coverage": "coverage",
    "reward/grounding": "grounding",
    "reward/unscored": "unscored",
}


def train_grpo(
    data: Path | str,
    out: Path,
    recipe: TrainRecipe,
    *,
    start: Path,
    cache_dir: Path,
    embedder: Embedder,
    library: RatedLibrary | None,
    judge: Rater | None = None,
    resume: bool = False,
    max_steps: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train the cold start in ``start`` further, on MIXTURE's GRPO part in ``data``, into ``out``.

    ``embedder`` and ``library`` make the reward (:mod:`lm_mixup.rewards`); ``judge``, which neither of them has
    learned from, watches over held-out rows (:mod:`lm_mixup.training.watch`). Otherwise as
    :func:`lm_mixup.training.sft.train_sft`; RecipeError where ``start`` holds no model of :mod:`lm_mixup.training`.
    """
    begun = begin(data, recipe, start=start, cache_dir=cache_dir)
    recipe, tokenizer = begun.recipe, begun.tokenizer
    found, held_out = split_off(begun.found, recipe.watch.rows if recipe.watch.every else 0)
    asked = {"command": "grpo", "recipe": recipe.model_dump(mode="json", exclude={"sft"})}
    told = {**asked, "data": found.digest, "rows": len(found.examples), "begun_with": begun_with(start, begun.told)}
    folder = Folder(out, told, resume=resume)
    scorer = make_scorer(recipe.rewards, embedder, library)
    watch = Watch(folder, recipe, held_out, tokenizer, scorer, judge) if held_out else None
    model = begun.model()
    reward = as_function(scorer, recipe.rewards, recipe.seed)
    with explained("grpo", recipe.grpo.batch):
        trainer = make_trainer(model, tokenizer, found, folder, recipe, reward, max_steps, progress, watch)
        trainer.train(resume_from_checkpoint=str(folder.resume_from) if folder.resume_from else None)
    return write_artefact(
        trainer,
        folder,
        recipe,
        command="grpo",
        rows=found,
        data=data,
        cache_dir=cache_dir,
        begun_with=begun_with(start, begun.told),
        adapter=begun.told["adapter"],
    )


def split_off(found: Examples, count: int) -> tuple[Examples, Sequence[Example]]:
    """The examples to train on, and ``count`` of them, the last, that are only looked at."""
    if not count:
        return found, ()
    count = min(count, len(found.examples) // 4)
    rest = found.examples[: len(found.examples) - count]
    return Examples(rest, {**found.left_out, "held-out": count}), found.examples[len(rest) :]


def make_trainer(
    model: Any,
    tokenizer: Any,
    found: Examples,
    folder: Folder,
    recipe: TrainRecipe,
    reward: Callable[..., Any],
    max_steps: int | None,
    progress: Progress | None,
    watch: Watch | None,
    rollout: Callable[..., Any] | None = None,
) -> Any:
    """TRL's trainer. ``rollout`` replaces the sampling of answers (TRL's ``rollout_func``), for replaying them."""
    try:
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        raise base.missing("trl") from error
    from lm_mixup.training.callbacks import GiveBack, Log, Look, StopAt, quiet
    from lm_mixup.training.shared_prompts import SharedPromptsTrainer

    settings = recipe.grpo
    if settings.vllm and settings.shared_prompts:
        raise RecipeError("grpo: expected one of vllm and shared_prompts, got both; vLLM shares prompts by itself")
    rollouts, cpu = settings.mini_batch * settings.rollouts, recipe.device == "cpu"
    if rollouts % settings.batch or settings.prompts % settings.mini_batch:
        raise RecipeError(
            f"grpo: expected prompts ({settings.prompts}) as a multiple of mini_batch ({settings.mini_batch}), and "
            f"mini_batch x rollouts ({rollouts}) as a multiple of batch ({settings.batch})"
        )
    lengths = [len(example.prompt[-1]["content"]) for example in found.examples]
    order = batched_by_length(lengths, batch=settings.prompts, epochs=settings.epochs, seed=recipe.seed)
    config = GRPOConfig(
        output_dir=str(folder.checkpoints),
        num_train_epochs=1,  # the order holds all epochs
        shuffle_dataset=False,
        num_generations=settings.rollouts,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=rollouts // settings.batch,
        generation_batch_size=settings.prompts * settings.rollouts,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        beta=settings.kl,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.checkpoint_activations,
        use_vllm=settings.vllm,
        vllm_mode="colocate",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=1,
        report_to=recipe.report_to,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=cpu,
        pad_to_multiple_of=PADDED if cpu else None,
        bf16=recipe.model.dtype == "bfloat16",
        fp16=False,
        dataloader_pin_memory=not cpu,
        disable_tqdm=True,
    )
    callbacks = [Log(folder, progress, time.monotonic, KEPT), GiveBack(), *([StopAt(max_steps)] if max_steps else [])]
    trainer = (SharedPromptsTrainer if settings.shared_prompts else GRPOTrainer)(
        model=model,
        args=config,
        reward_funcs=reward,
        train_dataset=as_dataset(list(found.examples), order, with_answers=False),
        processing_class=tokenizer,
        peft_config=None if hasattr(model, "peft_config") else base.lora_config(recipe),
        callbacks=[*callbacks, *([Look(watch)] if watch else [])],
        **({"rollout_func": rollout} if rollout else {}),
    )
    quiet(trainer)
    base.make_quick(trainer.model, temperature=settings.temperature)
    return trainer
