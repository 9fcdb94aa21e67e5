"""The LLM judge: rarity, complexity, informativeness and overall quality, 1–10, compressed to 0–5 (METHOD § 1.1)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from lm_mixup.errors import InputError
from lm_mixup.llm import loop
from lm_mixup.llm.parsing import JUDGE_SCHEMA, Judgement, parse_judgement
from lm_mixup.llm.probabilities import overall_probabilities
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.prompts import Template, load, load_file
from lm_mixup.prompts.fence import fence_word, fenced, trim_middle
from lm_mixup.records import Failure, Rating, Sample, TaskType, digest

STAGE = "rate"
CLIP_MIN, CLIP_MAX = 4, 9
"""Overall ratings are clipped to this range and moved to 0–5. DS2; METHOD § 1.1 [R, D]."""

LIKELIEST = 20
"""How many alternatives are asked for at each token, where probabilities are wanted: the most that OpenAI gives."""

CHARS_PER_TOKEN = 2.5
"""Fewer than any language but those without spaces has: for fitting a sample into a window, on the safe side."""

_LEAST_CHARS = 500  # a sample trimmed below this cannot be rated
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

    ``draws`` above 1 asks so often, each time with another seed and at ``temperature`` (which must then be above 0),
    and takes the mean of what could be read, if that is at least half; the details hold the ``draws`` and their
    ``spread`` (standard deviation, 0–5). With ``expected``, the rating is the expected value under the probabilities of
    the tokens that state the overall rating, where the model offers them: finer than whole classes. The details then
    hold ``expected``, the share of the probability that was on ratings; where the model offers none they do not.

    A model with a small window (``context_tokens``) has samples trimmed so that they fit.

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
        draws: int = 1,
        expected: bool = False,
        chunk_samples: int = 4096,
    ) -> None:
        if draws < 1 or (draws > 1 and temperature <= 0):
            raise InputError(f"{draws} draws at temperature {temperature:g}: expected one, or a temperature above 0")
        self._llm = llm
        self._rubrics: dict[TaskType, Template] = {
            t: load_file(prompts[t]) if t in prompts else load(f"judge_{t}") for t in TaskType
        }
        self._again = load("judge_again")
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._max_sample_chars = self._fitting(max_sample_chars)
        self._draws = draws
        self._expected = expected
        self._chunk_samples = max(chunk_samples, getattr(llm, "at_once", None) or 0)

    @property
    def key(self) -> str:
        """A hash of the model, the rubrics and the settings."""
        rubrics = {str(t): template.digest for t, template in self._rubrics.items()}
        settings = [self._temperature, self._max_tokens, self._max_sample_chars]
        if self._draws > 1 or self._expected:
            settings += [self._draws, self._expected]
        return "judge-" + digest([self._llm.key, rubrics, self._again.digest, dict(JUDGE_SCHEMA), settings])[:16]

    @property
    def model(self) -> str:
        """The key of the model that is asked."""
        return self._llm.key

    @property
    def at_once(self) -> int | None:
        """How many samples the model wants to be given at a time (None: it does not care)."""
        return getattr(self._llm, "at_once", None)

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating, or a failure, per sample, in order. Raises what the model raises for an endpoint as a whole."""
        return [rating for chunk in self._chunks(samples) for rating in loop.run(self._rate(chunk))]

    def _chunks(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        for start in range(0, len(samples), self._chunk_samples):
            yield samples[start : start + self._chunk_samples]

    async def _rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        asked = [self.prompt(sample) for sample in samples]
        prompts = [self._draw(prompt, draw) for prompt, _ in asked for draw in range(self._draws)]
        first = await self._llm.complete(prompts)
        results: dict[int, Rating | Failure] = {}
        unread: dict[int, Prompt] = {}
        for i, answer in enumerate(first):
            sample, (_, trimmed) = samples[i // self._draws], asked[i // self._draws]
            results[i] = self._read(sample, answer, trimmed=trimmed, asked=1)
            if isinstance(answer, Completion) and isinstance(results[i], Failure):
                unread[i] = self._ask_again(prompts[i], answer)
        for i, answer in zip(unread, await self._llm.complete(list(unread.values())) if unread else [], strict=True):
            sample, (_, trimmed) = samples[i // self._draws], asked[i // self._draws]
            results[i] = self._read(sample, answer, trimmed=trimmed, asked=2)
        each = [[results[n * self._draws + draw] for draw in range(self._draws)] for n in range(len(samples))]
        return [
            draws[0] if self._draws == 1 else _mean(sample, draws) for sample, draws in zip(samples, each, strict=True)
        ]

    def _draw(self, prompt: Prompt, draw: int) -> Prompt:
        return prompt if self._draws == 1 else replace(prompt, seed=draw)

    def _fitting(self, max_sample_chars: int) -> int:
        """The most characters of a sample with which a prompt fits into the model's window."""
        window: int | None = getattr(self._llm, "context_tokens", None)
        if window is None:
            return max_sample_chars
        rubric = max(
            sum(len(m["content"]) for m in rubric.render(fence="", sample="")) for rubric in self._rubrics.values()
        )
        room = int((window - self._max_tokens) * CHARS_PER_TOKEN) - rubric
        if room < _LEAST_CHARS:
            raise InputError(
                f"the judge's model has a window of {window} tokens: expected room for a rubric of {rubric} "
                f"characters, an answer of {self._max_tokens} tokens and {_LEAST_CHARS} characters of a sample; "
                "take another model, or set llm.context_tokens if it is larger"
            )
        return min(max_sample_chars, room)

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
                logprobs=LIKELIEST if self._expected else 0,
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
        details: dict[str, object] = dict(_details(judgement, trimmed, asked))
        value = compress(judgement.overall)
        told = overall_probabilities(answer.details.get("logprobs"), judgement.overall) if self._expected else None
        if told is not None:
            mass = sum(told.values())
            value = sum(share * compress(overall) for overall, share in told.items()) / mass
            details["expected"] = round(min(mass, 1.0), 4)
        return Rating(value, MappingProxyType(details))


def _mean(sample: Sample, draws: Sequence[Rating | Failure]) -> Rating | Failure:
    """The mean of several draws, a failure where fewer than half could be read."""
    read = [draw for draw in draws if isinstance(draw, Rating)]
    if 2 * len(read) < len(draws):
        failures = [draw for draw in draws if isinstance(draw, Failure)]
        return Failure(
            sample.id, STAGE, failures[0].reason, f"{len(failures)} of {len(draws)} draws: {failures[0].detail}"
        )
    values = [draw.value for draw in read]
    details = dict(read[0].details) | {"draws": values, "spread": round(statistics.pstdev(values), 4)}
    return Rating(statistics.fmean(values), MappingProxyType(details))


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
