"""Damaged copies of samples, for training a rater and for checking one.

Rated pools are mostly clean: of 4,000 Dolly rows none holds a tag, one in five hundred a refusal. A head that learned
from ratings alone therefore cannot know that damage is bad (a loop makes a text longer, and longer texts are rated
higher). Each function here spoils the completion in one way that real pools show; :data:`DROPS` says by how
much a rating is taken to fall, which is this project's assumption and no rater's word.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from lm_mixup.records import Message, Sample

DROPS: Mapping[str, float] = MappingProxyType(
    {
        "cut": 1.0,
        "shuffle": 2.0,
        "loop": 1.5,
        "stutter": 1.0,
        "typos": 1.0,
        "markup": 1.0,
        "garble": 2.0,
        "other_answer": 2.0,
        "refusal": 2.0,
        "echo": 2.0,
    }
)
"""Kind of damage → points (of 0–5) that a rating is taken to fall by it, never below 0. METHOD leaves it open."""

_TAGS = (
    "<p>",
    "</p>",
    "<br>",
    "<br/>",
    "&nbsp;",
    "&amp;",
    "<div>",
    "</div>",
    "<b>",
    "</b>",
    "[1]",
    "[edit]",
    "<span>",
    "&#39;",
    "<|endoftext|>",
    "https://t.co/x1",
)
_GARBLES = ("�", "\x1a", "ï¿½", "â€™", "Ã©", "▒", "□", "Â")
_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I do not have access to that information.",
    "I don't know.",
    "I am not able to answer this question.",
    "I cannot answer that, I'm sorry.",
)
_KEYBOARD = "qwertyuiopasdfghjklzxcvbnm"


def damage(sample: Sample, kind: str, *, seed: int, other: Sample) -> Sample | None:
    """A copy of ``sample`` with its completion damaged, or None where it is too short for this kind to change anything.

    ``kind`` is a key of :data:`DROPS`; ``other`` is a sample of another subject, whose completion ``other_answer``
    borrows. The same arguments give the same copy.
    """
    rng = random.Random(f"{seed}:{kind}:{sample.digest}")
    if kind == "other_answer":
        text = other.completion
    elif kind == "echo":
        text = sample.prompt
    else:
        text = _WAYS[kind](sample.completion, rng)
    if text.strip() == sample.completion.strip() or not text.strip():
        return None
    messages = (*sample.messages[:-1], Message("assistant", text))
    return dataclasses.replace(sample, id=f"{sample.id}#{kind}", messages=messages)


def _cut(text: str, rng: random.Random) -> str:
    words = text.split()
    return " ".join(words[: max(1, int(len(words) * rng.uniform(0.25, 0.6)))]) if len(words) >= 6 else text


def _shuffle(text: str, rng: random.Random) -> str:
    words = text.split()
    rng.shuffle(words)
    return " ".join(words) if len(words) >= 5 else text


def _loop(text: str, rng: random.Random) -> str:
    parts = [p for p in re.split(r"(?<=[.!?])\s+|\n+", text) if p.strip()]
    if not parts:
        return text
    at = rng.randrange(len(parts))
    return " ".join([*parts[: at + 1], *[parts[at]] * rng.randint(2, 6), *parts[at + 1 :]])


def _stutter(text: str, rng: random.Random) -> str:
    return " ".join(f"{w} {w}" if rng.random() < 0.25 else w for w in text.split(" "))


def _typos(text: str, rng: random.Random) -> str:
    def spoil(word: str) -> str:
        if len(word) < 3 or rng.random() > 0.35:
            return word
        at = rng.randrange(len(word) - 1)
        way = rng.randrange(3)
        if way == 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + (rng.choice(_KEYBOARD) if way == 1 else "") + word[at + 1 :]

    return " ".join(spoil(w) for w in text.split(" "))


def _sprinkle(text: str, rng: random.Random, pieces: tuple[str, ...], share: float, joint: str) -> str:
    words = text.split(" ")
    places = {rng.randrange(len(words)), *(i for i in range(len(words)) if rng.random() < share)}
    return " ".join(f"{w}{joint}{rng.choice(pieces)}" if i in places else w for i, w in enumerate(words))


def _markup(text: str, rng: random.Random) -> str:
    return _sprinkle(text, rng, _TAGS, 0.12, " ")


def _garble(text: str, rng: random.Random) -> str:
    return _sprinkle(text, rng, _GARBLES, 0.3, "")


def _refusal(text: str, rng: random.Random) -> str:
    return rng.choice(_REFUSALS)


_WAYS: Mapping[str, Callable[[str, random.Random], str]] = MappingProxyType(
    {
        "cut": _cut,
        "shuffle": _shuffle,
        "loop": _loop,
        "stutter": _stutter,
        "typos": _typos,
        "markup": _markup,
        "garble": _garble,
        "refusal": _refusal,
    }
)
