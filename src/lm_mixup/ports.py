"""The ports: the four things a run can be given, each replaceable by any object of the same shape.

Settings go through the constructor; a port's method takes records and returns as many, in the same order. ``key``
names everything that its results depend on (model, version, settings): results are cached under it, so two objects
with the same key must give the same results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lm_mixup.records import Cluster, Distillate, Failure, Rating, Sample

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to a language model.

    ``messages`` are OpenAI-shaped. ``schema`` is a JSON schema that the answer should follow, enforced by the server
    where it can. ``max_tokens`` bounds the answer; ``temperature`` 0 is greedy. ``logprobs`` asks for the probabilities
    of so many likeliest tokens at each place of the answer (0: none), where the model offers them.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A language model's answer. ``finish_reason`` is ``stop`` or ``length``; token counts are None where unknown."""

    id: str
    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@runtime_checkable
class LLM(Protocol):
    """A language model: answers in the order of the prompts, as many as there are prompts."""

    @property
    def key(self) -> str:
        """Names the model and everything else that its answers depend on, but no address and no secret."""
        ...

    async def complete(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """Answer each prompt, or say why not. Never raises for a single prompt."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Maps texts to unit vectors. A text's vector must not depend on the other texts of the call."""

    @property
    def key(self) -> str:
        """Names the model, its version and its settings."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n_texts, dim) float32, unit rows."""
        ...


@runtime_checkable
class Rater(Protocol):
    """Rates samples 0–5."""

    @property
    def key(self) -> str:
        """Names the rater, its version and its settings."""
        ...

    def rate(self, samples: Sequence[Sample]) -> list[Rating | Failure]:
        """One rating, or a failure, per sample, in order. A sample's rating must not depend on the others."""
        ...


@runtime_checkable
class Distiller(Protocol):
    """Turns each cluster into one sample."""

    @property
    def key(self) -> str:
        """Names the distiller, its version and its settings."""
        ...

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        """One distillate, or a failure, per cluster, in order; its ``id`` and ``cluster`` are the cluster's id."""
        ...
