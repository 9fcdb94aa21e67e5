"""Rewards on rollouts: what a model's answer is worth, component by component.

``Scorer`` puts them together, ``trl_reward`` hands them to TRL; each is usable alone. ``docs/rewards.md``.
"""

from lm_mixup.rewards.alignment import alignment_reward
from lm_mixup.rewards.answers import Reading, Rollout, answer_sample, read_answer
from lm_mixup.rewards.coverage import coverage_reward, grounding_reward
from lm_mixup.rewards.form import format_reward
from lm_mixup.rewards.library import mixture_library
from lm_mixup.rewards.quality import VectorRater, quality_reward
from lm_mixup.rewards.scorer import COMPONENTS, Scored, Scorer, Weights
from lm_mixup.rewards.trl import TRLReward, trl_reward

__all__ = [
    "COMPONENTS",
    "Reading",
    "Rollout",
    "Scored",
    "Scorer",
    "TRLReward",
    "VectorRater",
    "Weights",
    "alignment_reward",
    "answer_sample",
    "coverage_reward",
    "format_reward",
    "grounding_reward",
    "mixture_library",
    "quality_reward",
    "read_answer",
    "trl_reward",
]
