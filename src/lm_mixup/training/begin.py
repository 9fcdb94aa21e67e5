"""A trained model as the beginning of another training: an adapter that is trained further, or sampled from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import RecipeError
from lm_mixup.rewards import Rollout
from lm_mixup.training import base
from lm_mixup.training.artefact import ADAPTER
from lm_mixup.training.base import sha256
from lm_mixup.training.data import Example, Examples, examples, token_counter
from lm_mixup.training.generation import Answer, generate
from lm_mixup.training.recipe import TrainRecipe


def trained(name: str | Path) -> bool:
    """Whether this is a folder that a training wrote."""
    return (Path(name) / "lm_mixup.json").is_file()


def cold_start(start: Path) -> dict[str, Any]:
    """What ``lm_mixup.json`` tells of a trained model. Raises RecipeError where there is none."""
    if not trained(start):
        raise RecipeError(
            f"{start}: expected a folder that lm-mixup train sft wrote (with lm_mixup.json). From a model without the "
            "cold start every format reward is 0 and nothing is learned: begin with lm-mixup train sft"
        )
    told: dict[str, Any] = orjson.loads((start / "lm_mixup.json").read_bytes())
    return told


def begun_with(start: Path, told: dict[str, Any]) -> dict[str, Any]:
    """What a training records of the model that it began with."""
    weights = start / (ADAPTER if told["adapter"] else "model.safetensors")
    kept = {name: told[name] for name in ("stage", "steps", "max_samples", "max_tokens")}
    return {"folder": start.name, "sha256": sha256(weights), **kept}


@dataclass(frozen=True, slots=True)
class ColdStart:
    """A cold start and the prompts of MIXTURE's GRPO part: what GRPO, its preflight and the search for winners need.

    ``recipe`` names the cold start's base; ``where`` is what transformers loads.
    """

    folder: Path
    told: dict[str, Any]
    recipe: TrainRecipe
    where: str
    tokenizer: Any
    found: Examples

    def model(self) -> Any:
        """The model, its adapter on it."""
        return base.load_model(self.where, self.recipe, adapter=self.folder if self.told["adapter"] else None)

    def draw(self, model: Any, rows: Sequence[Example], *, batch: int, seed: int) -> tuple[list[Answer], list[Rollout]]:
        """``grpo.rollouts`` answers to each row, row by row, ``batch`` at a time, and what rewards read of them."""
        settings = self.recipe.grpo
        asked = [row for row in rows for _ in range(settings.rollouts)]
        answers = generate(
            model,
            self.tokenizer,
            [row.prompt for row in asked],
            max_new_tokens=settings.max_new_tokens,
            batch=batch,
            temperature=settings.temperature,
            seed=seed,
        )
        return answers, [
            Rollout(answer.text, row.task_type, row.reference, row.variants)
            for answer, row in zip(answers, asked, strict=True)
        ]


def begin(data: Path | str, recipe: TrainRecipe, *, start: Path, cache_dir: Path) -> ColdStart:
    """The cold start in ``start`` with the prompts in ``data``. RecipeError where ``start`` holds no trained model."""
    told = cold_start(start)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": told["base"]})})
    where = base.trainable(told["base"], cache_dir=cache_dir) if told["adapter"] else str(start)
    tokenizer = base.load_tokenizer(where)
    found = examples(
        data,
        "grpo",
        recipe.data,
        count_tokens=token_counter(tokenizer),
        seed=recipe.seed,
        subset=recipe.grpo.subset,
    )
    return ColdStart(start, told, recipe, where, tokenizer, found)
