"""The trained model as files: an adapter in bfloat16 (or all weights), what it is, and its card."""

from __future__ import annotations

import contextlib
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from lm_mixup import __version__
from lm_mixup.errors import MissingExtraError
from lm_mixup.files import replacing, write_bytes
from lm_mixup.mixture.rows import write_articles
from lm_mixup.models import MODELS, resolve
from lm_mixup.prompts.compact import compact_digest
from lm_mixup.training.base import sha256
from lm_mixup.training.data import Examples
from lm_mixup.training.figure import draw
from lm_mixup.training.folder import Folder
from lm_mixup.training.recipe import TrainRecipe

ADAPTER = "adapter_model.safetensors"


def write_artefact(
    trainer: Any,
    folder: Folder,
    recipe: TrainRecipe,
    *,
    command: str,
    rows: Examples,
    data: Path | str,
    cache_dir: Path,
    begun_with: dict[str, Any] | None = None,
    adapter: bool | None = None,
) -> Path:
    """Write the model into the training's folder, ``lm_mixup.json`` last. Returns the folder."""
    out = folder.path
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = bool(recipe.lora.rank) if adapter is None else adapter
    if adapter:
        _write_adapter(model, out, recipe.model.name)
    else:
        model.save_pretrained(out)
        trainer.processing_class.save_pretrained(out)
    # trained further on shorter rows, a model still reads what it read before
    widest = {
        name: max(value, (begun_with or {}).get(name, 0))
        for name, value in (("max_samples", recipe.data.max_variants), ("max_tokens", recipe.data.max_tokens))
    }
    told = {
        "format": 1,
        "lm_mixup": __version__,
        "base": recipe.model.name,
        "base_sha256": sha256(resolve(recipe.model.name, cache_dir=cache_dir)) if recipe.model.name in MODELS else "",
        "adapter": adapter,
        "prompt": "compact",
        "prompt_digest": compact_digest(),
        "cot": recipe.data.cot,
        **widest,
        "data": Path(data).name,
        "data_digest": rows.digest,
        "rows": len(rows.examples),
        "command": shlex.join(["lm-mixup", *(_plain(word) for word in sys.argv[1:])]),
        "stage": command,
        "steps": trainer.state.global_step,
        "date": datetime.now(UTC).date().isoformat(),
        "recipe": recipe.model_dump(mode="json"),
        "begun_with": begun_with,
    }
    with contextlib.suppress(MissingExtraError):  # a picture of the training is a convenience
        draw(out / "training.svg", folder.lines(), folder.looks())
    write_articles(out, rows.articles)
    write_bytes(out / "README.md", card(told, folder.lines()).encode())
    write_bytes(out / "lm_mixup.json", orjson.dumps(told, option=orjson.OPT_INDENT_2))
    return out


def _plain(word: str) -> str:
    """An argument without the folders of whoever trained: a card is for others."""
    return Path(word).name if word.startswith(("/", "~", ".")) and len(word) > 1 else word


def _write_adapter(model: Any, out: Path, name: str) -> None:
    """PEFT's own layout, in bfloat16: half the size, and what the base model is computed in anyway."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, adapter_name="default")
    tensors = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in state.items()}
    with replacing(out / ADAPTER) as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors makes it readable by its owner alone
    config = model.peft_config["default"].to_dict()
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    plain["inference_mode"] = True
    plain["base_model_name_or_path"] = name  # not the folder it was read from
    write_bytes(out / "adapter_config.json", orjson.dumps(plain, option=orjson.OPT_INDENT_2, default=str))


def card(told: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """The model card."""
    losses = [line for line in lines if "loss" in line]
    shown = losses[:: max(1, len(losses) // 12)]
    kind = "LoRA adapter" if told["adapter"] else "model"
    method = "SFT" if told["stage"] == "sft" else "SFT, then GRPO"
    figures = "\n".join(f"| {line['step']} | {line['loss']:.4f} | {line['seconds']:,.0f} |" for line in shown)
    return f"""---
base_model: {told["base"]}
library_name: {"peft" if told["adapter"] else "transformers"}
tags: [lm-mixup, instruction-distillation]
---
# An LM-Mixup distiller

A {kind} on `{told["base"]}`, trained by {method} (LM-Mixup, arXiv 2510.20449)
to distil a cluster of poor samples into one good one. Use it: `lm-mixup distill CLUSTERS --model FOLDER` (this folder).

It reads up to {told["max_samples"]} samples and {told["max_tokens"]} tokens, prompt and answer together, in English.
It can drop a sentence, keep a typing error or invent a word: what it writes is checked against its sources, and where
a check fails the extractive fusion is taken.

- Command: `{told["command"]}` (lm-mixup {told["lm_mixup"]}, {told["date"]})
- Steps: {told["steps"]}, over {told["rows"]:,} rows
- Data: `{told["data"]}`, hash {told["data_digest"]}
- Base model's bytes: {told["base_sha256"] or "as on the hub"}

| step | loss | seconds |
|---|---|---|
{figures}
"""
