"""Rewards as one function of TRL's: ``GRPOTrainer(reward_funcs=trl_reward(scorer), …)``.

TRL calls a reward function with the batch's ``prompts`` and ``completions`` and every other column of the data set; it
takes back one number a completion, or None for one that cannot be scored, which it then leaves out of the loss. Rewards
of several functions are added up; ours come from one function, so that an answer is read and embedded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_mixup.errors import InputError
from lm_mixup.records import TaskType
from lm_mixup.rewards.answers import Rollout
from lm_mixup.rewards.scorer import COMPONENTS, Scored, Scorer

COLUMNS = ("task_type", "reference", "variants")
Completion = str | Sequence[Mapping[str, Any]]
"""What TRL hands over: a text, or, for conversational prompts, the turns that the model wrote."""


class TRLReward:
    """A reward function of TRL's; :func:`trl_reward` makes one.

    ``last`` holds what the last call found, a result a completion; ``calls`` counts the calls.
    """

    # TRL names its logs after the function
    __name__ = "lm_mixup"

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.last: list[Scored] = []
        self.calls = 0

    def __call__(
        self, prompts: Any = None, completions: Sequence[Completion] = (), **columns: Any
    ) -> list[float | None]:
        """One reward a completion, None where it cannot be scored.

        ``columns`` must hold ``task_type``, ``reference`` and ``variants``, a value a completion. Where TRL passes
        ``log_metric`` and ``log_extra``, each component's mean and the share of completions that could not be scored
        are logged under ``reward/…``, and the components of each completion go into its table of completions.
        Raises InputError where a column is missing or of another length.
        """
        task_types, references, variants = (_column(columns, name, len(completions)) for name in COLUMNS)
        rollouts = [
            Rollout(text_of(completion), TaskType(task_type), reference or "", tuple(texts or ()))
            for completion, task_type, reference, texts in zip(
                completions, task_types, references, variants, strict=True
            )
        ]
        self.last = self.scorer.score(rollouts)
        self.calls += 1
        _log(self.last, columns.get("log_metric"), columns.get("log_extra"))
        return [scored.total for scored in self.last]


def trl_reward(scorer: Scorer) -> TRLReward:
    """The scorer as a reward function for TRL's ``reward_funcs``. For a reward alone, give it the only weight."""
    return TRLReward(scorer)


def text_of(completion: Completion) -> str:
    """The text of a completion: as it is, or that of its turns, a line break between."""
    if isinstance(completion, str):
        return completion
    return "\n".join(str(turn.get("content") or "") for turn in completion)


def _column(columns: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
    values: Sequence[Any] | None = columns.get(name)
    if values is None or len(values) != count:
        raise InputError(
            f"rewards: expected a column {name!r} with a value for each of the {count} completions, got "
            f"{'none' if values is None else len(values)}; the training set needs the columns {', '.join(COLUMNS)}, "
            "and remove_unused_columns=False"
        )
    if name == "task_type" and (unknown := set(values) - set(TaskType)):
        raise InputError(f"rewards: expected task types among {', '.join(TaskType)}, got {sorted(map(str, unknown))}")
    return values


def _log(
    scored: Sequence[Scored],
    log_metric: Callable[[str, float], None] | None,
    log_extra: Callable[[str, list[Any]], None] | None,
) -> None:
    if not scored:
        return
    if log_metric is not None:
        log_metric("reward/unscored", sum(one.total is None for one in scored) / len(scored))
    for name in COMPONENTS:
        values = [one.components.get(name) for one in scored]
        known = [value for value in values if value is not None]
        if log_metric is not None and known:
            log_metric(f"reward/{name}", sum(known) / len(known))
        if log_extra is not None and known:
            log_extra(name, values)
