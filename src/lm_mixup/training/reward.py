"""The reward of a training, put together from the recipe. METHOD § 3."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_mixup.errors import RecipeError
from lm_mixup.mixture.load import load_mixture
from lm_mixup.ports import Embedder
from lm_mixup.raters.learned import reward_rater
from lm_mixup.raters.library import RatedLibrary
from lm_mixup.records import digest
from lm_mixup.rewards import Scorer, Weights, trl_reward
from lm_mixup.rewards.alignment import THRESHOLD
from lm_mixup.rewards.library import mixture_library
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


def reward_library(
    settings: RewardSettings, data: Path | str, embedder: Embedder, *, cache_dir: Path, seed: int
) -> RatedLibrary | None:
    """The library that the recipe names; else one made of the texts of MIXTURE's SFT part in ``data``.

    The latter is rated by :func:`lm_mixup.raters.learned.reward_rater` and kept in the cache: embedding its texts takes
    minutes. None where quality does not count.
    """
    if settings.library:
        return RatedLibrary.load(Path(settings.library))
    if not settings.quality:
        return None
    rows = [row for row in load_mixture(data) if row.split == "sft"]
    rater = reward_rater(embedder)
    key = digest([embedder.key, rater.key, settings.library_rows, seed, [[row.id, *row.variants] for row in rows]])
    folder = cache_dir / "libraries" / key[:16]
    if not folder.is_dir():
        library = mixture_library(rows, embedder, rater, per_type=settings.library_rows, seed=seed)
        draft = folder.with_name(f"{folder.name}.{os.getpid()}.draft")
        library.save(draft)
        with contextlib.suppress(OSError):  # another process was first: its folder is as good
            draft.rename(folder)
    return RatedLibrary.load(folder)


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
