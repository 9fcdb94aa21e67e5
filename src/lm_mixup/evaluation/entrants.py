"""Who takes part in an evaluation, and what each of them made of the rows, kept so that nothing is paid twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pyarrow as pa

from lm_mixup.evaluation.baselines import cut
from lm_mixup.ports import LLM, Completion, Distiller, Prompt
from lm_mixup.records import Cluster, Distillate, Failure, Sample, digest
from lm_mixup.rewards import answer_sample
from lm_mixup.run_folder import Run
from lm_mixup.stages.rowwise import Progress, fill, silent
from lm_mixup.task_types import parse

CHUNK_CLUSTERS = 64
"""Clusters between two writes to the store, unless the distiller wants more at a time."""

FALLBACK = "[fallback:"
"""What the ``think`` of a distillate says where a model's own answer could not be used."""

_SCHEMA = pa.schema([pa.field("answer", pa.string()), pa.field("said", pa.string()), pa.field("fallback", pa.bool_())])


class Overheard:
    """``inner``, with its first answer to each prompt written down; what comes after ``</answer>`` is cut off.

    METHOD § 4 reads answers up to there. ``said`` holds the whole of them, by the prompt's id.
    """

    def __init__(self, inner: LLM) -> None:
        self._inner = inner
        self.said: dict[str, str] = {}
        own: Callable[[str], int] | None = getattr(inner, "count_tokens", None)
        if own is not None:
            self.count_tokens = own
        self.context_tokens: int | None = getattr(inner, "context_tokens", None)
        self.at_once: int | None = getattr(inner, "at_once", None)

    @property
    def key(self) -> str:
        """The model's own, and that it is cut."""
        return f"{self._inner.key}+cut"

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """The model's answers, cut."""
        out: list[Completion | Failure] = []
        for prompt, answer in zip(prompts, await self._inner.complete(prompts), strict=True):
            if isinstance(answer, Completion):
                self.said.setdefault(prompt.id, answer.text)
                out.append(replace(answer, text=cut(answer.text)))
            else:
                out.append(answer)
        return out


@dataclass(frozen=True)
class Entrant:
    """A distiller under a name. ``said``: a model's first words for a cluster's id, whole, where they are known."""

    name: str
    distiller: Distiller
    said: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Answer:
    """What an entrant made of a row.

    ``sample`` is the answer in conversation, ``text`` in its type's form; both are None where there is none, and
    ``reason`` and ``detail`` say why. ``said`` is all that the model said at first, None where that is not known;
    ``fallback``: the answer is not the model's own.
    """

    text: str | None
    sample: Sample | None
    said: str | None
    fallback: bool
    reason: str = ""
    detail: str = ""


def answers_of(entrant: Entrant, clusters: Sequence[Cluster], run: Run, progress: Progress = silent) -> list[Answer]:
    """The entrant's answer to each cluster, in order, through the run's store.

    Failures are not kept: they are tried again by the next run; a language model's ledger spares what was answered.
    """
    store = run.store("answers", entrant.distiller.key, _SCHEMA)
    keys = [digest([cluster.id, cluster.digest]) for cluster in clusters]

    def encode(cluster: Cluster, made: Distillate) -> tuple[object, ...]:
        return made.answer, entrant.said.get(cluster.id), FALLBACK in made.think

    chunk = max(CHUNK_CLUSTERS, getattr(entrant.distiller, "at_once", None) or 0)
    failures = fill(store, keys, clusters, entrant.distiller.distill, encode, chunk=chunk, progress=progress)
    kept = iter(store.take([key for key in keys if key not in failures]).to_pylist())
    out = []
    for cluster, key in zip(clusters, keys, strict=True):
        failure = failures.get(key)
        if failure is not None:
            said = entrant.said.get(cluster.id)
            out.append(Answer(None, None, said, False, failure.reason, failure.detail))
        else:
            out.append(_answer(cluster, next(kept)))
    return out


def _answer(cluster: Cluster, stored: Mapping[str, object]) -> Answer:
    text = str(stored["answer"])
    said = None if stored["said"] is None else str(stored["said"])
    if parse(cluster.task_type, text) is None:
        return Answer(None, None, said, False, "bad-format", f"no sample of type {cluster.task_type}: {text[:160]!r}")
    return Answer(text, answer_sample(cluster.id, cluster.task_type, text), said, bool(stored["fallback"]))
