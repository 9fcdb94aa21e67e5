"""A trained model as the beginning of another training: an adapter that is trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from lm_mixup.errors import RecipeError
from lm_mixup.training.artefact import ADAPTER
from lm_mixup.training.base import sha256


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
    return {"folder": start.name, "stage": told["stage"], "sha256": sha256(weights), "steps": told["steps"]}
