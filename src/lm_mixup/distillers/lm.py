"""Distilling with a language model: a cluster goes in as one prompt, ``<think>…</think><answer>…</answer>`` comes out.

LM-Mixup § 3 (METHOD § 1.5): greedy, at most 2400 tokens in and 2400 out, repetition penalty 1.05.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from lm_mixup import task_types
from lm_mixup.errors import InputError
from lm_mixup.llm import loop
from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.ports import LLM, Completion, Distiller, Prompt
from lm_mixup.prompts import Messages, Template, load, load_file
from lm_mixup.prompts.compact import compact, compact_digest, labelled
from lm_mixup.prompts.fence import fence_word, fenced, trim_middle
from lm_mixup.records import Cluster, Distillate, Failure, Sample, TaskType, digest

STAGE = "distill"
BYTES_PER_TOKEN = 3.5
"""For estimates without a tokenizer. English has about 4.2 bytes a token, most other languages fewer: on the safe side
for the former, close for the latter."""

_TEMPLATE_TOKENS = 64  # what a chat template adds
_LEAST_INPUT_TOKENS = 64
_REPEATED_CHARS = 4_000
_SHOWN_CHARS = 160
_TWO_DIGITS = 10  # a label is counted as if it had two
_LEAST_CHARS = 200  # a sample trimmed below this says nothing


def estimate_tokens(text: str) -> int:
    """Tokens of a text, estimated from its length in UTF-8."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Asked:
    """A cluster as a prompt: which members went in, and a remark on what was left out ("" if nothing)."""

    prompt: Prompt
    used_ids: tuple[str, ...]
    remark: str


class LMDistiller:
    """Distils clusters by asking a language model.

    The prompt is an instruction for the cluster's task type (``prompts`` replaces one: task type → a template's file),
    then the members in their task type's form, numbered, each between fences that no member's text can write. An answer
    without the asked form is asked for once more; then ``fallback`` distils the cluster (the distillate's ``think``
    says so), or, without one, it is a Failure ``bad-format``.

    A cluster longer than ``max_input_tokens`` is trimmed: members enter from the best rated down (the earlier one among
    equals) as far as each still fits, and keep the cluster's order; if not even the best fits, its middle goes.
    ``used_ids`` says which went in, ``think`` ends with a remark. Tokens are counted by ``count_tokens``, else by the
    model's own method of that name, else estimated (:func:`estimate_tokens`).

    ``style`` "compact" asks in the words that trained models were trained with (:mod:`lm_mixup.prompts.compact`):
    no fences, and ``prompts`` has no effect. Such models know one turn only: set ``ask_again`` to False for them.

    A model with a window (``context_tokens``) gets no more than fits beside an answer of ``max_new_tokens``; one whose
    window leaves no room is refused (:class:`InputError`).

    ``templates`` turn an item into user turns (:data:`lm_mixup.task_types.TEMPLATES`). ``max_new_tokens``,
    ``repetition_penalty`` and ``temperature`` go to the model.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        templates: Mapping[str, str] = task_types.TEMPLATES,
        prompts: Mapping[TaskType, Path] = MappingProxyType({}),
        max_input_tokens: int = 2400,
        max_new_tokens: int = 2400,
        repetition_penalty: float = 1.05,
        temperature: float = 0.0,
        style: Literal["fenced", "compact"] = "fenced",
        ask_again: bool = True,
        count_tokens: Callable[[str], int] | None = None,
        fallback: Distiller | None = None,
        chunk_clusters: int = 1024,
    ) -> None:
        self._llm = llm
        self._templates = templates
        self._instructions: dict[TaskType, Template] = {
            t: load_file(prompts[t]) if t in prompts else load(f"distill_{t}") for t in TaskType
        }
        self._again = load("distill_again")
        self._max_input_tokens = _within(getattr(llm, "context_tokens", None), max_input_tokens, max_new_tokens)
        self._max_new_tokens = max_new_tokens
        self._repetition_penalty = repetition_penalty
        self._temperature = temperature
        self._style = style
        self._asks_again = ask_again
        own: Callable[[str], int] | None = getattr(llm, "count_tokens", None)
        self._count = count_tokens or own or estimate_tokens
        self._fallback = fallback
        self._chunk_clusters = max(chunk_clusters, getattr(llm, "at_once", None) or 0)

    @property
    def key(self) -> str:
        """A hash of the model, the instructions, the settings, and the fallback's key."""
        instructions = {str(t): template.digest for t, template in self._instructions.items()}
        settings = [self._max_input_tokens, self._max_new_tokens, self._repetition_penalty, self._temperature]
        fallback = self._fallback.key if self._fallback else None
        asked = [self._llm.key, instructions, self._again.digest, dict(self._templates)]
        parts: list[object] = [*asked, settings, fallback]
        if self._style == "compact":
            parts.append(compact_digest())
        if not self._asks_again:
            parts.append("asked once")
        return "lm-" + digest(parts)[:16]

    @property
    def at_once(self) -> int | None:
        """How many clusters the model wants to be given at a time (None: it does not care)."""
        return getattr(self._llm, "at_once", None)

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        """One distillate, or a failure, per cluster, in order. Raises what the model raises for an endpoint."""
        return [made for chunk in self._chunks(clusters) for made in self._with_fallback(chunk)]

    def _chunks(self, clusters: Sequence[Cluster]) -> Iterator[Sequence[Cluster]]:
        for start in range(0, len(clusters), self._chunk_clusters):
            yield clusters[start : start + self._chunk_clusters]

    def _with_fallback(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        made = loop.run(self._distill(clusters))
        failed = [i for i, result in enumerate(made) if isinstance(result, Failure)]
        if self._fallback is None or not failed:
            return made
        for i, second in zip(failed, self._fallback.distill([clusters[i] for i in failed]), strict=True):
            first = made[i]
            if isinstance(second, Distillate) and isinstance(first, Failure):
                note = f"[fallback: the language model gave no distillate ({first.reason})]"
                made[i] = replace(second, think=f"{second.think}\n{note}".strip())
        return made

    async def _distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        asked = [self.prompt(cluster) for cluster in clusters]
        results: dict[int, Distillate | Failure] = {}
        again: dict[int, Prompt] = {}
        for i, answer in enumerate(await self._llm.complete([a.prompt for a in asked])):
            results[i] = self._read(clusters[i], asked[i], answer)
            if isinstance(answer, Completion) and isinstance(failure := results[i], Failure) and self._asks_again:
                again[i] = self._ask_again(clusters[i], asked[i].prompt, answer, failure)
        for i, answer in zip(again, await self._llm.complete(list(again.values())) if again else [], strict=True):
            results[i] = self._read(clusters[i], asked[i], answer)
        return [results[i] for i in range(len(clusters))]

    def prompt(self, cluster: Cluster) -> Asked:
        """What is asked about a cluster."""
        texts = [member_text(sample, self._templates) for sample in cluster.samples]
        word = fence_word(cluster.digest, texts) if self._style == "fenced" else ""
        room = self._max_input_tokens - sum(self._count(m["content"]) for m in self._messages(cluster, word, []))
        kept, remark = self._fitting(texts, cluster.ratings, word, room)
        messages = self._messages(cluster, word, list(kept.values()))
        prompt = Prompt(
            cluster.id,
            messages,
            max_tokens=self._max_new_tokens,
            temperature=self._temperature,
            repetition_penalty=self._repetition_penalty,
        )
        return Asked(prompt, tuple(cluster.samples[i].id for i in kept), remark)

    def _messages(self, cluster: Cluster, word: str, texts: Sequence[str]) -> Messages:
        """The prompt over these texts. Its frame costs as much whatever they are, so that it can be counted before."""
        if self._style == "compact":
            return compact(cluster.task_type, texts)
        samples = [fenced(word, f"sample {number}", text) for number, text in enumerate(texts, start=1)]
        count = str(len(texts) or len(cluster.samples))
        return self._instructions[cluster.task_type].render(fence=word, count=count, samples="\n\n".join(samples))

    def _framed(self, text: str, word: str) -> str:
        """A sample as it will stand in the prompt, for counting."""
        return labelled(_TWO_DIGITS, text) if self._style == "compact" else fenced(word, "sample 00", text)

    def _fitting(
        self, texts: Sequence[str], ratings: Sequence[float], word: str, room: int
    ) -> tuple[dict[int, str], str]:
        """The members that fit into ``room`` tokens, in the cluster's order, and a remark on the others."""
        costs = [self._count(self._framed(text, word) + "\n\n") for text in texts]
        kept: dict[int, str] = {}
        best_first = sorted(range(len(texts)), key=lambda i: (-ratings[i], i))
        for i in best_first:
            if costs[i] <= room:
                kept[i] = texts[i]
                room -= costs[i]
        if not kept:
            i = best_first[0]
            share = max(0.0, (room - self._count(self._framed("", word))) / max(1, costs[i]))
            cut, left_out = trim_middle(texts[i], max(_LEAST_CHARS, int(0.9 * share * len(texts[i]))))
            kept = {i: cut}
            remark = f"[input trimmed: the best-rated sample alone, {left_out} of its characters left out]"
            return kept, remark
        remark = f"[input trimmed: the {len(kept)} best-rated of {len(texts)} samples that fit]"
        return dict(sorted(kept.items())), remark if len(kept) < len(texts) else ""

    def _ask_again(self, cluster: Cluster, prompt: Prompt, answer: Completion, failure: Failure) -> Prompt:
        said = {"role": "assistant", "content": answer.text[:_REPEATED_CHARS] or "(nothing)"}
        problem = failure.detail.partition(";")[0]
        turn = self._again.render(problem=problem, task_type=str(cluster.task_type))
        return replace(prompt, messages=(*prompt.messages, said, *turn))

    def _read(self, cluster: Cluster, asked: Asked, answer: Completion | Failure) -> Distillate | Failure:
        if isinstance(answer, Failure):
            return Failure(cluster.id, STAGE, answer.reason, answer.detail)
        parts = parse_think_answer(answer.text)
        if parts is None:
            problem = "it was cut off at the length limit" if answer.finish_reason == "length" else "no single <answer>"
            return _bad_format(cluster, problem, answer.text)
        item = task_types.parse(cluster.task_type, parts.answer)
        if item is None:
            return _bad_format(cluster, f"the <answer> is no sample of type {cluster.task_type}", parts.answer)
        think = parts.think or str(answer.details.get("reasoning", ""))
        return Distillate(
            id=cluster.id,
            cluster=cluster.id,
            task_type=cluster.task_type,
            language=cluster.language,
            source=cluster.source,
            source_ids=cluster.source_ids,
            used_ids=asked.used_ids,
            answer=task_types.render(item),
            messages=task_types.to_messages(item, self._templates),
            think=f"{think}\n{asked.remark}".strip(),
        )


def member_text(sample: Sample, templates: Mapping[str, str] = task_types.TEMPLATES) -> str:
    """How a member of a cluster is shown to a model: in its task type's form, where it has one."""
    item = task_types.from_sample(sample, templates)
    return sample.text if item is None else task_types.render(item)


def _within(window: int | None, max_input_tokens: int, max_new_tokens: int) -> int:
    """The input tokens that fit into a model's window beside the longest answer and the chat template."""
    room = max_input_tokens if window is None else min(max_input_tokens, window - max_new_tokens - _TEMPLATE_TOKENS)
    if room < _LEAST_INPUT_TOKENS:
        raise InputError(
            f"the model's window of {window} tokens leaves {room} for a cluster beside an answer of {max_new_tokens}: "
            "set distill.max_new_tokens lower, take another model, or set llm.context_tokens if it is larger"
        )
    return room


def _bad_format(cluster: Cluster, problem: str, text: str) -> Failure:
    return Failure(cluster.id, STAGE, "bad-format", f"{problem}; answer: {' '.join(text.split())[:_SHOWN_CHARS]!r}")
