"""The LLM judge: rarity, complexity, informativeness and overall quality, 1–10, compressed to 0–5 (METHOD § 1.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from lm_mixup.llm import loop
from lm_mixup.llm.parsing import JUDGE_SCHEMA, Judgement, parse_judgement
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.prompts import Template, load, load_file
from lm_mixup.prompts.fence import fence_word, fenced, trim_middle
from lm_mixup.records import Failure, Rating, Sample, TaskType, digest

STAGE = "rate"
CLIP_MIN, CLIP_MAX = 4, 9
"""Overall ratings are clipped to this range and moved to 0–5. DS2; METHOD § 1.1 [R, D]."""

_REPEATED_CHARS = 2_000  # of an unreadable answer, in the re-ask
_SHOWN_CHARS = 160  # of an unreadable answer, in a failure's detail


def compress(overall: int) -> float:
    """The 0–5 rating of an overall rating 1–10: clip to 4..9, minus 4. DS2; METHOD § 1.1."""
    return float(min(max(overall, CLIP_MIN), CLIP_MAX) - CLIP_MIN)


class LLMJudge:
    """Rates samples by asking a language model, with one rubric per task type.

    A sample goes into the prompt as data, between fences that its text cannot write
    (:mod:`lm_mixup.prompts.fence`), with every turn of a conversation in a fence of its own. The answer must be a JSON
    object of four whole numbers; the schema is enforced by servers that can. An answer that cannot be read, repair
    included, is asked for once more, and then is a Failure ``unreadable-rating`` (``refused`` where the model says that
    it will not): never a number.

    ``prompts`` replaces rubrics: task type → a template's file. A sample of more than ``max_sample_chars`` characters
    loses the middle of its longest turns, visibly, and its rating's details say how many characters
    (``trimmed_chars``). ``max_tokens`` bounds an answer: raise it for models that think aloud first.
    ``chunk_samples`` bounds how many prompts exist at a time.

    A rating's details: ``rarity``, ``complexity``, ``informativeness``, ``overall`` (1–10), and ``asked`` (1 or 2).
    """

    def __init__(
        self,
        llm: LLM,
        *,
        prompts: Mapping[TaskType, Path] = MappingProxyType({}),
        temperature: float = 0.0,
        max_tokens: int = 256,
        max_sample_chars: int = 24_000,
        chunk_samples: int = 4096,
    ) -> None:
        self._llm = llm
        self._rubrics: dict[TaskType, Template] = {
            t: load_file(prompts[t]) if t in prompts else load(f"judge_{t}") for t in TaskType
        }
        self._again = load("judge_again")
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._max_sample_chars = max_sample_chars
        self._chunk_samples = chunk_samples

    @property
    def key(self) -> str:
        """A hash of the model, the rubrics and the settings."""
        rubrics = {str(t): template.digest for t, template in self._rubrics.items()}
        settings = [self._temperature, self._max_tokens, self._max_sample_chars]
        return "judge-" + digest([self._llm.key, rubrics, self._again.digest, dict(JUDGE_SCHEMA), settings])[:16]

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating, or a failure, per sample, in order. Raises what the model raises for an endpoint as a whole."""
        return [rating for chunk in self._chunks(samples) for rating in loop.run(self._rate(chunk))]

    def _chunks(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        for start in range(0, len(samples), self._chunk_samples):
            yield samples[start : start + self._chunk_samples]

    async def _rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        asked = [self.prompt(sample) for sample in samples]
        first = await self._llm.complete([prompt for prompt, _ in asked])
        results: dict[int, Rating | Failure] = {}
        unread: dict[int, Prompt] = {}
        for i, answer in enumerate(first):
            result = self._read(samples[i], answer, trimmed=asked[i][1], asked=1)
            if isinstance(answer, Completion) and isinstance(result, Failure):
                unread[i] = self._ask_again(asked[i][0], answer)
            results[i] = result
        for i, answer in zip(unread, await self._llm.complete(list(unread.values())) if unread else [], strict=True):
            results[i] = self._read(samples[i], answer, trimmed=asked[i][1], asked=2)
        return [results[i] for i in range(len(samples))]

    def prompt(self, sample: Sample) -> tuple[Prompt, int]:
        """What is asked about a sample, and how many of its characters were left out."""
        texts, trimmed = self._trimmed([_turn_text(m.as_dict()) for m in sample.messages])
        word = fence_word(sample.digest, texts)
        turns = [fenced(word, m.role, text) for m, text in zip(sample.messages, texts, strict=True)]
        messages = self._rubrics[sample.task_type].render(fence=word, sample="\n\n".join(turns))
        return (
            Prompt(
                sample.id,
                messages,
                max_tokens=self._max_tokens,
                temperature=self._temperature,
                schema=JUDGE_SCHEMA,
            ),
            trimmed,
        )

    def _trimmed(self, texts: list[str]) -> tuple[list[str], int]:
        """Turns cut to one common length, the largest with which they fit together; and how much was cut."""
        if sum(map(len, texts)) <= self._max_sample_chars:
            return texts, 0
        room, share = self._max_sample_chars, 0
        for number, length in enumerate(sorted(map(len, texts))):
            share = room // (len(texts) - number)
            if length > share:
                break
            room -= length
        cut = [trim_middle(text, share) for text in texts]
        return [text for text, _ in cut], sum(left_out for _, left_out in cut)

    def _ask_again(self, prompt: Prompt, answer: Completion) -> Prompt:
        said = {"role": "assistant", "content": answer.text[:_REPEATED_CHARS] or "(nothing)"}
        return replace(prompt, messages=(*prompt.messages, said, *self._again.render()))

    def _read(self, sample: Sample, answer: Completion | Failure, *, trimmed: int, asked: int) -> Rating | Failure:
        if isinstance(answer, Failure):
            return Failure(sample.id, STAGE, answer.reason, answer.detail)
        judgement = parse_judgement(answer.text, cut_off=answer.finish_reason == "length")
        if judgement is None:
            reason = "refused" if answer.details.get("refusal") else "unreadable-rating"
            return Failure(sample.id, STAGE, reason, f"answer: {' '.join(answer.text.split())[:_SHOWN_CHARS]!r}")
        return Rating(compress(judgement.overall), MappingProxyType(_details(judgement, trimmed, asked)))


def _details(judgement: Judgement, trimmed: int, asked: int) -> dict[str, int]:
    details = {
        "rarity": judgement.rarity,
        "complexity": judgement.complexity,
        "informativeness": judgement.informativeness,
        "overall": judgement.overall,
        "asked": asked,
    }
    return details | ({"trimmed_chars": trimmed} if trimmed else {})


def _turn_text(message: Mapping[str, object]) -> str:
    """A turn's text; tool calls and the like, which are part of what is rated, follow as written."""
    extra = {name: value for name, value in message.items() if name not in ("role", "content")}
    return f"{message['content']}\n{extra}".lstrip("\n") if extra else str(message["content"])
