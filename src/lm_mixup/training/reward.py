"""The reward of a training, put together from the recipe. METHOD § 3."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_mixup.errors import RecipeError
from lm_mixup.ports import Embedder
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.rewards import Scorer, Weights, trl_reward
from lm_mixup.rewards.alignment import THRESHOLD
from lm_mixup.rewards.trl import TRLReward
from lm_mixup.training.recipe import RewardSettings


def make_scorer(settings: RewardSettings, embedder: Embedder | None, library: RatedLibrary | None) -> Scorer:
    """The recipe's scorer. Raises RecipeError where quality counts and no library is there."""
    if settings.quality and library is None:
        raise RecipeError(
            "rewards.quality counts, and there is no rated library: set rewards.library to a folder that "
            "lm-mixup library build made, or rewards.quality to 0"
        )
    return Scorer(
        embedder,
        library,
        Weights(settings.quality, settings.alignment, settings.format, settings.coverage, settings.grounding),
        mapping="linear" if settings.quality_map == "continuous" else "steps",
        threshold=None if settings.alignment_map == "continuous" else THRESHOLD,
    )


def load_library(settings: RewardSettings) -> RatedLibrary | None:
    """The library that the recipe names, if it names one."""
    return RatedLibrary.load(Path(settings.library)) if settings.library else None


class Shuffled:
    """The control: each batch's rewards dealt out at random among its rollouts. Nothing can be learned from them.

    The deal depends on the seed and the step alone, so that a resumed control goes on as it would have.
    """

    __name__ = "lm_mixup_shuffled"

    def __init__(self, reward: TRLReward, seed: int) -> None:
        self._reward = reward
        self._seed = seed

    def __call__(self, prompts: Any = None, completions: Sequence[Any] = (), **columns: Any) -> list[float | None]:
        """One reward a completion."""
        rewards = self._reward(prompts, completions, **columns)
        state = columns.get("trainer_state")
        random.Random(f"{self._seed}:{getattr(state, 'global_step', self._reward.calls)}").shuffle(rewards)
        return rewards


def as_function(scorer: Scorer, settings: RewardSettings, seed: int) -> Any:
    """The reward function for TRL."""
    reward = trl_reward(scorer)
    return Shuffled(reward, seed) if settings.shuffled else reward
