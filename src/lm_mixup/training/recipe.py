"""The recipe of a training. The defaults are the paper's, for one GPU; ``cpu`` ships for a laptop's processor.

Sources as in the method: [P] the paper, [R] its released code, [O] our own choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lm_mixup import recipe
from lm_mixup.errors import RecipeError
from lm_mixup.recipe import Section
from lm_mixup.records import TaskType

SHIPPED = ("cpu", "gpu")


class ModelSettings(Section):
    """The model that is trained."""

    name: str = Field(
        "Qwen/Qwen2.5-1.5B-Instruct",
        description="A name on the hub, a folder, or smollm2-135m-instruct (needs no hub). --model replaces it. [P]",
    )
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="Of the weights; an adapter is float32. [R]")
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field("sdpa", description="Implementation of attention.")


class DataSettings(Section):
    """Which rows of MIXTURE are trained on, and what the model is to say."""

    types: tuple[TaskType, ...] = Field(tuple(TaskType), description="Task types. [P: all five]")
    min_variants: int = Field(2, ge=1, description="Rows with fewer variants are left out. [P]")
    max_variants: int = Field(20, ge=1, description="Rows with more variants are left out. [P]")
    max_tokens: int = Field(2400, ge=64, description="Rows longer than this, prompt and answer, are left out. [R]")
    cot: Literal["full", "none"] = Field(
        "full",
        description="What the answer thinks: MIXTURE's chain of thought, or nothing, which halves the answer. [P, O]",
    )
    limit: int | None = Field(None, ge=1, description="At most so many rows, drawn by the seed.")


class LoraSettings(Section):
    """Low-rank adapters instead of all weights."""

    rank: int = Field(0, ge=0, description="Rank on all linear layers; 0: train all weights. [R: 0]")
    alpha: int = Field(32, ge=1, description="Scale, divided by the rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapters.")


class SFTSettings(Section):
    """The cold start."""

    epochs: float = Field(3.0, gt=0, description="Passes over the data. [R]")
    learning_rate: float = Field(2e-5, gt=0, description="Peak rate. [R]")
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field("cosine", description="Of the rate. [O]")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the rate rises. [R]")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW. [R]")
    batch: int = Field(1, ge=1, description="Rows computed together on a device. [R]")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step. [R]")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm. [R]")
    checkpoint_activations: bool = Field(True, description="Compute activations twice to hold fewer: a GPU's memory.")
    save_steps: int = Field(25, ge=1, description="Steps between checkpoints; a kill loses at most these. [O]")
    log_steps: int = Field(5, ge=1, description="Steps between lines of log.jsonl. [O]")


class GRPOSettings(Section):
    """Group-relative policy optimisation on top of the cold start."""

    prompts: int = Field(128, ge=1, description="Prompts a step. [R]")
    mini_batch: int = Field(
        16, ge=1, description="Prompts whose gradients make one update; prompts a step over this updates a step. [R]"
    )
    rollouts: int = Field(4, ge=2, description="Answers sampled for each prompt. [R]")
    batch: int = Field(16, ge=1, description="Rollouts computed together on a device when training on them. [R]")
    temperature: float = Field(1.0, gt=0, description="Of the rollouts. [R]")
    max_new_tokens: int = Field(2400, ge=16, description="Longest rollout. [R]")
    learning_rate: float = Field(1e-6, gt=0, description="Peak rate. [R]")
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field("constant_with_warmup", description="[O]")
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of the steps in which the rate rises. [O]")
    kl: float = Field(0.01, ge=0, description="Weight of the KL to the cold start (k3 estimator). [R]")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm. [R]")
    epochs: float = Field(1.0, gt=0, description="Passes over the prompts. [R]")
    subset: bool = Field(True, description="MIXTURE's GRPO subset alone: no near-duplicates, the rarer half. [R]")
    checkpoint_activations: bool = Field(True, description="As in sft.")
    vllm: bool = Field(False, description="Sample with vLLM (installed beside TRL, see docs/train.md).")
    shared_prompts: bool = Field(
        False, description="Read a prompt once for its whole group: half the work of a CPU; not with vllm. [O]"
    )
    save_steps: int = Field(5, ge=1, description="Steps between checkpoints. [O]")


class RewardSettings(Section):
    """The reward of a rollout: a weighted sum of parts, each 0-1."""

    quality: float = Field(0.5, ge=0, description="KNN-Bayes rating over a rated library. [R]")
    alignment: float = Field(0.4, ge=0, description="Cosine with the reference. [R]")
    format: float = Field(0.1, ge=0, description="<think>, <answer> and the task type's form. [R]")
    coverage: float = Field(0.0, ge=0, description="Share of the cluster's facts that the answer holds. [O]")
    grounding: float = Field(0.0, ge=0, description="Share of the answer's claims that a source supports. [O]")
    quality_map: Literal["steps", "continuous"] = Field(
        "steps", description="steps: class >= 4 is 1, 3 is 0.3, below 0; continuous: the rating over 5. [R, O]"
    )
    alignment_map: Literal["threshold", "continuous"] = Field(
        "threshold", description="threshold: cosine >= 0.8 is 1, else 0; continuous: the cosine. [R, O]"
    )
    library: str | None = Field(
        None, description="Folder of a rated library (lm-mixup library build); empty: made of the SFT part's texts."
    )
    library_rows: int = Field(2000, ge=20, description="Texts of each task type in a library that is made. [O]")
    shuffled: bool = Field(False, description="Deal the rewards out at random: the control that must not learn. [O]")


class WatchSettings(Section):
    """The watch against reward hacking: an independent judge on held-out prompts during GRPO."""

    every: int = Field(10, ge=0, description="Steps between looks; 0: never. [O]")
    rows: int = Field(24, ge=2, description="Held-out rows looked at. [O]")
    patience: int = Field(
        3,
        ge=1,
        description="Stop after so many looks in which the reward rose and the judge fell beyond its interval. [O]",
    )


class TrainRecipe(Section):
    """All settings of a training."""

    version: Literal[1] = Field(1, description="Version of this format.")
    seed: int = Field(0, ge=0, description="Seed of everything that draws.")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where there is one; cpu: never.")
    threads: int | None = Field(None, ge=1, description="Threads of torch on a CPU; empty: torch's own choice.")
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = Field(
        "none", description="Where figures go besides log.jsonl."
    )
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    lora: LoraSettings = LoraSettings()
    sft: SFTSettings = SFTSettings()
    grpo: GRPOSettings = GRPOSettings()
    rewards: RewardSettings = RewardSettings()
    watch: WatchSettings = WatchSettings()


def load(
    name: str | Path | None = None, settings: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> TrainRecipe:
    """A training's recipe: ``cpu`` or ``gpu`` (they ship), or a YAML file; then settings as of a run's.

    None: the defaults, which are ``gpu``'s. Raises RecipeError.
    """
    if name is None:
        return recipe.read(TrainRecipe, None, settings, overrides)
    if str(name) in SHIPPED:
        with resources.as_file(resources.files(__package__).joinpath("recipes", f"{name}.yaml")) as path:
            return recipe.read(TrainRecipe, path, settings, overrides)
    if not Path(name).is_file():
        raise RecipeError(f"{name}: no such recipe; expected a YAML file or one of {', '.join(SHIPPED)}")
    return recipe.read(TrainRecipe, Path(name), settings, overrides)
