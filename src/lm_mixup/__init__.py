"""lm-mixup: instruction distillation. A pool of mixed quality in, a small, dense, verifiable train set out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lm_mixup.api import Result, run
    from lm_mixup.errors import LMMixupError
    from lm_mixup.ports import LLM, Completion, Distiller, Embedder, Prompt, Rater
    from lm_mixup.recipe import Recipe
    from lm_mixup.recipe import load as load_recipe
    from lm_mixup.records import Cluster, Distillate, Failure, Message, Rating, Sample, TaskType

_HOMES = {
    "Result": "api",
    "run": "api",
    "LMMixupError": "errors",
    "LLM": "ports",
    "Completion": "ports",
    "Distiller": "ports",
    "Embedder": "ports",
    "Prompt": "ports",
    "Rater": "ports",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "Cluster": "records",
    "Distillate": "records",
    "Failure": "records",
    "Message": "records",
    "Rating": "records",
    "Sample": "records",
    "TaskType": "records",
}

__all__ = [
    "LLM",
    "Cluster",
    "Completion",
    "Distillate",
    "Distiller",
    "Embedder",
    "Failure",
    "LMMixupError",
    "Message",
    "Prompt",
    "Rater",
    "Rating",
    "Recipe",
    "Result",
    "Sample",
    "TaskType",
    "load_recipe",
    "run",
]


def __getattr__(name: str) -> object:
    # a name is imported when it is first used, so that importing the package costs nothing
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), "load" if name == "load_recipe" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
