"""The watch against reward hacking: what happens to held-out rows while the reward rises.

Every so many steps the model answers, greedily, held-out prompts that it is not trained on. Told are: the reward that
it is trained on; the rating of a judge that the reward knows nothing of; length; how much is copied from the sources;
how varied the answers are. Where the reward rises and the judge falls beyond its interval, look after look, training
stops: what it learns from there on is the reward's weakness.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from lm_mixup.files import write_bytes
from lm_mixup.ports import Rater
from lm_mixup.records import Rating
from lm_mixup.rewards import Rollout, Scored, Scorer
from lm_mixup.training.data import Example
from lm_mixup.training.folder import Folder
from lm_mixup.training.generation import Answer, generate
from lm_mixup.training.recipe import TrainRecipe

_WORD = re.compile(r"\w+")
COPIED_WORDS = 5
"""A run of so many words that a source has, too, counts as copied."""
Z = 1.96
"""Two-sided 95 %."""


class Watch:
    """Looks at held-out rows; ``looks`` holds what was seen, by step, and outlives a kill."""

    def __init__(
        self,
        folder: Folder,
        recipe: TrainRecipe,
        rows: Sequence[Example],
        tokenizer: Any,
        scorer: Scorer,
        judge: Rater | None,
    ) -> None:
        self.every = recipe.watch.every
        self._path = folder.watch
        self._recipe = recipe
        self._rows = rows
        self._tokenizer = tokenizer
        self._scorer = scorer
        self._judge = judge
        last = folder.lines()[-1]["step"] if folder.lines() else 0
        self.looks = [look for look in folder.looks() if look["step"] <= last]

    def look(self, model: Any, step: int) -> bool:
        """Look once; True where training should stop. A step that was looked at before a kill is not again."""
        if any(look["step"] == step for look in self.looks):
            return False
        answers = generate(
            model,
            self._tokenizer,
            [row.prompt for row in self._rows],
            max_new_tokens=self._recipe.grpo.max_new_tokens,
            batch=self._recipe.grpo.batch,
        )
        self.looks.append({"step": step, **self._figures(answers)})
        write_bytes(self._path, b"".join(orjson.dumps(look) + b"\n" for look in self.looks))
        return hacked(self.looks, self._recipe.watch.patience)

    def _figures(self, answers: Sequence[Answer]) -> dict[str, Any]:
        rollouts = [
            Rollout(answer.text, row.task_type, row.reference, row.variants)
            for answer, row in zip(answers, self._rows, strict=True)
        ]
        scored = self._scorer.score(rollouts)
        rewards = [one.total for one in scored if one.total is not None]
        ratings = self._ratings(scored)
        parts = {
            name: _mean([v for one in scored if (v := one.components.get(name)) is not None])
            for name in ("quality", "alignment", "format", "coverage", "grounding")
        }
        texts = [one.answer or "" for one in scored]
        return {
            "reward": _mean(rewards),
            "reward_error": _error(rewards),
            "judge": _mean(ratings),
            "judge_error": _error(ratings),
            "judged": len(ratings),
            **parts,
            "tokens": _mean([float(answer.tokens) for answer in answers]),
            "cut": _mean([float(answer.cut) for answer in answers]),
            "copied": _mean([copied(t, row.variants) for t, row in zip(texts, self._rows, strict=True) if t]),
            "distinct": distinct(texts),
        }

    def _ratings(self, scored: Sequence[Scored]) -> list[float]:
        samples = [one.sample for one in scored if one.sample is not None]
        if self._judge is None or not samples:
            return []
        return [r.value for r in self._judge.rate(samples) if isinstance(r, Rating)]


def hacked(looks: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether in each of the last ``patience`` looks the reward stood above the first look's, and the judge below it by
    more than the interval of their difference (95 %).
    """
    if len(looks) <= patience or any(look["judge"] is None or look["reward"] is None for look in looks):
        return False
    first = looks[0]

    def bad(look: dict[str, Any]) -> bool:
        error = math.hypot(look["judge_error"], first["judge_error"])
        return bool(look["reward"] > first["reward"] and look["judge"] < first["judge"] - Z * error)

    return all(bad(look) for look in looks[-patience:])


def copied(text: str, sources: Sequence[str]) -> float:
    """Share of the text's runs of five words that a source has, too: 1 is all copied, 0 nothing."""
    there = {run for source in sources for run in _runs(source, COPIED_WORDS)}
    own = _runs(text, COPIED_WORDS)
    return sum(run in there for run in own) / len(own) if own else 0.0


def distinct(texts: Sequence[str]) -> float:
    """Share of different runs of three words among all runs of all texts (distinct-3): low where answers are alike."""
    runs = Counter(run for text in texts for run in _runs(text, 3))
    return len(runs) / total if (total := sum(runs.values())) else 0.0


def _runs(text: str, length: int) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _error(values: Sequence[float]) -> float | None:
    """Standard error of the mean."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
