"""The model that training begins with: a folder that transformers reads, or the embedded model's GGUF made into one."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from lm_mixup import models
from lm_mixup.errors import MissingExtraError, ModelError
from lm_mixup.training.recipe import TrainRecipe

WHAT = "training"


def missing(package: str) -> MissingExtraError:
    """The error for a package of the extra ``train`` that is not installed."""
    return MissingExtraError(WHAT, "train", package)


def trainable(name: str, *, cache_dir: Path) -> str:
    """What ``from_pretrained`` takes for a model's name: a folder, or the name itself for one on the hub.

    The embedded model comes as a quantised GGUF file. It is dequantised once (half a minute) into the cache, under the
    hash of its bytes. Raises ModelError.
    """
    if name not in models.MODELS:
        return name
    gguf = models.resolve(name, cache_dir=cache_dir)
    if gguf.suffix != ".gguf":
        raise ModelError(f"{name}: no language model; lm-mixup models lists what there is")
    folder = cache_dir / "trainable" / f"{name}-{sha256(gguf)[:16]}"
    if not (folder / "model.safetensors").is_file():
        _dequantise(gguf, folder)
    return str(folder)


def sha256(path: Path) -> str:
    """The hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dequantise(gguf: Path, folder: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise missing(str(error.name)) from error
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.draft")
    where, file = str(gguf.parent), gguf.name
    config = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.float32, quantization_config=config)
    model.save_pretrained(draft)
    AutoTokenizer.from_pretrained(where, gguf_file=file).save_pretrained(draft)
    try:
        draft.rename(folder)  # another process may have been first: its folder is as good
    except OSError:
        shutil.rmtree(draft)


def load_tokenizer(where: str) -> Any:
    """The tokenizer, with a token to pad with. Raises ModelError without a chat template."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise missing("transformers") from error
    tokenizer = AutoTokenizer.from_pretrained(where)
    if not tokenizer.chat_template:
        raise ModelError(f"{where}: the model has no chat template; take an instruction-tuned (chat) model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(where: str, recipe: TrainRecipe, *, adapter: Path | None = None) -> Any:
    """The model in the recipe's type; with ``adapter`` (a PEFT folder) on it, ready to be trained further."""
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise missing(str(error.name)) from error
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    dtype = getattr(torch, recipe.model.dtype)
    model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, attn_implementation=recipe.model.attention)
    if adapter is None:
        return model
    try:
        from peft import PeftModel
    except ImportError as error:
        raise missing("peft") from error
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)


def make_quick(model: Any, *, temperature: float = 1.0) -> None:
    """What makes a trainer's model quicker without changing what it learns, beyond rounding."""
    _compute_as_stored(model)
    if model.device.type == "cpu":
        from lm_mixup.training.dense_head import score_answers_alone

        inner = model.get_base_model() if hasattr(model, "peft_config") else model
        score_answers_alone(inner, temperature=temperature)


def _compute_as_stored(model: Any) -> None:
    """Let a float32 adapter on bfloat16 weights compute in bfloat16, as the rest does under :func:`in_stored_type`.

    PEFT would cast each layer's input to float32 and back, which takes a third of a step on a CPU (15.9 s without this,
    10.4 s with it, for eight rows of 384 tokens on two cores); the gradients differ by 1 %, as bfloat16 rounds.
    """
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def in_stored_type(model: Any) -> Any:
    """A context in which a bfloat16 model with a float32 adapter computes in bfloat16, and a float32 model as it is."""
    import torch

    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.dtype == torch.bfloat16)


def lora_config(recipe: TrainRecipe) -> Any:
    """PEFT's configuration of the recipe's adapter; None where all weights are trained."""
    if recipe.lora.rank == 0:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise missing("peft") from error
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
