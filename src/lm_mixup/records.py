"""The nouns: what travels through a run, and what becomes of what does not.

All records are immutable. Text is Unicode without NUL characters or lone surrogates: the pool readers see to that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any

import orjson

UNKNOWN_LANGUAGE = "und"
"""The ISO 639-2 code for "undetermined"."""

RATING_MIN, RATING_MAX = 0.0, 5.0
"""Ratings are floats in this closed range; the class of a rating is the rounded value. LM-Mixup § 1."""


class TaskType(StrEnum):
    """The five task types of LM-Mixup (Table of MIXTURE): one spelling, one enum."""

    QA = "qa"
    MCQ = "mcq"
    TFQ = "tfq"
    CS = "cs"
    PARA = "para"


def digest(value: object) -> str:
    """Content hash of a JSON-able value: 32 hex digits (BLAKE2b, 128 bits) of its canonical JSON (sorted keys)."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def rating_class(rating: float) -> int:
    """The class 0–5 of a rating: the nearest whole number, halves upwards. LM-Mixup § 3 (METHOD § 1.3)."""
    return int(min(RATING_MAX, max(RATING_MIN, rating)) + 0.5)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    ``role`` is ``system``, ``user``, ``assistant`` or ``tool``; ``content`` is plain text and may be empty only where
    ``extra`` carries tool calls, and in a tool's turn. ``extra`` keeps every other key of the message (``tool_calls``,
    ``tool_call_id``, ``name`` …) exactly as given, as JSON-able values.
    """

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def as_dict(self) -> dict[str, Any]:
        """The message in OpenAI shape."""
        return {"role": self.role, "content": self.content, **self.extra}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Message:
        """The inverse of :meth:`as_dict`; the value has been validated already."""
        extra = {k: v for k, v in value.items() if k not in ("role", "content")}
        return cls(value["role"], value["content"], MappingProxyType(extra))


@dataclass(frozen=True)
class Sample:
    """One instruction-tuning row: a conversation that ends with an assistant's turn.

    ``id`` is unique within a run. ``source`` names the pool (or the data set within it) that the row came from.
    ``language`` is an ISO 639-1 code or :data:`UNKNOWN_LANGUAGE`. ``fields`` are the row's other columns, untouched.
    """

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    task_type: TaskType = TaskType.QA
    language: str = UNKNOWN_LANGUAGE
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def digest(self) -> str:
        """Content hash of the conversation and its task type: what every result computed from the text depends on."""
        return digest([str(self.task_type), [m.as_dict() for m in self.messages]])

    @cached_property
    def completion(self) -> str:
        """The text of the last assistant turn."""
        return self.messages[-1].content

    @cached_property
    def prompt(self) -> str:
        """Everything before the last turn as text: a lone user turn as it is, several turns with their roles named."""
        before = self.messages[:-1]
        if len(before) == 1:
            return before[0].content
        return "\n\n".join(f"{m.role}: {m.content}" for m in before)

    @cached_property
    def text(self) -> str:
        """Prompt and completion, a blank line between: what is embedded and rated."""
        return f"{self.prompt}\n\n{self.completion}"

    @property
    def turns(self) -> int:
        """How many user turns the conversation has."""
        return sum(m.role == "user" for m in self.messages)


@dataclass(frozen=True, slots=True)
class Rating:
    """A quality rating in 0–5 with what led to it (the judge's parts, a spread, a confidence), as JSON-able values."""

    value: float
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not RATING_MIN <= self.value <= RATING_MAX:
            raise ValueError(f"a rating lies in {RATING_MIN:g}–{RATING_MAX:g}, got {self.value!r}")


@dataclass(frozen=True)
class Cluster:
    """Samples to be distilled into one. ``ratings`` are the curated ratings, aligned with ``samples``.

    All samples share one task type, and one language unless the recipe lets languages mix.
    """

    id: str
    task_type: TaskType
    language: str
    source: str
    samples: tuple[Sample, ...]
    ratings: tuple[float, ...]

    @cached_property
    def digest(self) -> str:
        """Content hash over the members' conversations and ratings, in order: what a distillate depends on."""
        return digest([str(self.task_type), self.language, [s.digest for s in self.samples], list(self.ratings)])

    @property
    def source_ids(self) -> tuple[str, ...]:
        """The ids of the members, in order."""
        return tuple(s.id for s in self.samples)


@dataclass(frozen=True, slots=True)
class Distillate:
    """One cluster's product.

    ``answer`` is the distilled sample in its task type's form (METHOD § 2); ``messages`` is the same as a
    conversation; ``think`` is how the merge makes sense ("" where the distiller does not say); ``used_ids`` are the
    members whose text went in, a subset of ``source_ids``.
    """

    id: str
    cluster: str
    task_type: TaskType
    language: str
    source: str
    source_ids: tuple[str, ...]
    used_ids: tuple[str, ...]
    answer: str
    messages: tuple[Message, ...]
    think: str = ""

    def as_sample(self) -> Sample:
        """The distillate as a sample, to be rated like any other."""
        return Sample(self.id, self.messages, self.source, self.task_type, self.language)


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that a stage could not work out. Never a number. ``reason`` is a short kebab-case word."""

    id: str
    stage: str
    reason: str
    detail: str = ""
