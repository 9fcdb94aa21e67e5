"""The cold start: SFT on MIXTURE, loss on the answer alone. LM-Mixup § 3, METHOD § 3. Thin over TRL and PEFT."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_mixup.training import base
from lm_mixup.training.artefact import write_artefact
from lm_mixup.training.begin import begun_with, cold_start, trained
from lm_mixup.training.data import Example, Examples, examples, token_counter
from lm_mixup.training.faults import explained
from lm_mixup.training.folder import Folder
from lm_mixup.training.order import batched_by_length
from lm_mixup.training.recipe import TrainRecipe

PADDED = 32
"""On a CPU, batches are padded to a multiple of this: oneDNN keeps what it prepared for each shape it has seen."""

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with (step, steps in all, figures)."""


def train_sft(
    data: Path | str,
    out: Path,
    recipe: TrainRecipe,
    *,
    cache_dir: Path,
    resume: bool = False,
    max_steps: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train the recipe's model on MIXTURE's SFT part in ``data``; the model lies in ``out`` at the end.

    The recipe's model may be a folder that a training wrote: its adapter (or its weights) is trained further.
    ``resume`` goes on from the last checkpoint in ``out`` as if nothing had happened: seeds, order and log included.
    ``max_steps`` ends sooner, with the schedule of rates that the whole training has (as a kill would).
    Raises MissingExtraError without the extra ``train``, PoolError without rows, RunError where ``out`` holds another
    training or memory runs out, ModelError where the model cannot be had.
    """
    start = Path(recipe.model.name) if trained(recipe.model.name) else None
    begun = cold_start(start) if start else None
    if begun:
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": begun["base"]})})
    from_adapter = start if begun and begun["adapter"] else None
    whole = str(start) if start and not from_adapter else None
    where = whole or base.trainable(recipe.model.name, cache_dir=cache_dir)
    tokenizer = base.load_tokenizer(where)
    found = examples(data, "sft", recipe.data, count_tokens=token_counter(tokenizer), seed=recipe.seed)
    asked = {"command": "sft", "recipe": recipe.model_dump(mode="json", exclude={"grpo", "rewards", "watch"})}
    told = {**asked, "data": found.digest, "rows": len(found.examples)}
    before = begun_with(start, begun) if start and begun else None
    folder = Folder(out, told if before is None else {**told, "begun_with": before}, resume=resume)
    with explained("sft", recipe.sft.batch):
        trainer = _trainer(where, from_adapter, tokenizer, found, folder, recipe, max_steps, progress)
        trainer.train(resume_from_checkpoint=str(folder.resume_from) if folder.resume_from else None)
    return write_artefact(
        trainer,
        folder,
        recipe,
        command="sft",
        rows=found,
        data=data,
        cache_dir=cache_dir,
        begun_with=before,
        adapter=True if from_adapter else None,
    )


def as_dataset(rows: list[Example], order: list[int], *, with_answers: bool) -> Any:
    """The rows in that order as TRL wants them: prompts as messages; answers, or the columns that rewards read."""
    try:
        from datasets import Dataset
    except ImportError as error:
        raise base.missing("datasets") from error

    def shown(example: Example) -> dict[str, Any]:
        prompt = [dict(message) for message in example.prompt]
        if with_answers:
            return {"prompt": prompt, "completion": [{"role": "assistant", "content": example.completion}]}
        return {
            "prompt": prompt,
            "id": example.id,
            "task_type": str(example.task_type),
            "reference": example.reference,
            "variants": list(example.variants),
        }

    return Dataset.from_list([shown(rows[i]) for i in order])


def _trainer(
    where: str,
    adapter: Path | None,
    tokenizer: Any,
    found: Examples,
    folder: Folder,
    recipe: TrainRecipe,
    max_steps: int | None,
    progress: Progress | None,
) -> Any:
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise base.missing("trl") from error
    from lm_mixup.training.callbacks import GiveBack, Log, StopAt, quiet

    count = token_counter(tokenizer)
    lengths = [count(example.prompt, example.completion) for example in found.examples]
    settings = recipe.sft
    order = batched_by_length(
        lengths, batch=settings.batch * settings.accumulate, epochs=settings.epochs, seed=recipe.seed
    )
    cpu = recipe.device == "cpu"
    config = SFTConfig(
        output_dir=str(folder.checkpoints),
        num_train_epochs=1,  # the order holds all epochs
        train_sampling_strategy="sequential",
        max_length=None,  # longer rows were left out, none is cut
        completion_only_loss=True,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.checkpoint_activations,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=settings.log_steps,
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
    trainer = SFTTrainer(
        model=base.load_model(where, recipe, adapter=adapter),
        args=config,
        train_dataset=as_dataset(list(found.examples), order, with_answers=True),
        processing_class=tokenizer,
        peft_config=None if adapter else base.lora_config(recipe),
        callbacks=[Log(folder, progress, time.monotonic), GiveBack(), *([StopAt(max_steps)] if max_steps else [])],
    )
    quiet(trainer)
    base.make_quick(trainer.model)
    return trainer
