"""What sources support: which claims of a text no source bears out.

A claim is a fact of the text (:mod:`lm_mixup.distillers.facts`). A source supports it if a few neighbouring facts of
that ONE source have all of its numbers, all of its names and nearly all of its words, and do not deny it. Words count
as had if the source has them with one typing error, for sources are noisy. What the words do not show stays unseen:
two names of one sentence that changed places, a cause taken for an effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lm_mixup.distillers.extractive_words import content_words, numbers
from lm_mixup.distillers.facts import Fact, Keeper, facts_of
from lm_mixup.records import TaskType
from lm_mixup.task_types import Para, parse

WORDS_SUPPORTED = 0.85
"""Share of a claim's content words that its source must have. At 0.85 two of three claims with two words of another
text in them are found out, and hardly a true claim of MIXTURE is lost (``docs/rewards.md``)."""
NEIGHBORS = 3
"""A claim may rest on so many facts in a row of a source: a sentence's clauses, or two sentences made one."""
TYPO_CHARS = 4
"""Shorter words are looked for exactly."""
WORTH_A_LOOK = 0.6
"""Typing errors are looked for where so large a share of the words is there as it is."""
MAX_CHARS = 20_000
"""Of a text, so many characters are read: a cluster's texts are shorter, and a rollout gone wild stays cheap."""

_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|cannot|without)\b|n't\b|n’t\b", re.IGNORECASE)
# a capital inside a sentence; at its beginning every word has one
_NAME = re.compile(r"(?<![.!?:]\s)(?<![\"“(])\b[A-ZÀ-ÖØ-Þ][\w'’-]+")
_TWO_HEADS = re.compile(r"(?<=[?;])\s+(?=\S)")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class _Place:
    """Some neighbouring facts of one source: their words, and whether one, or every one, of them denies something."""

    words: frozenset[str]
    some_deny: bool
    all_deny: bool


class Sources:
    """The texts that a sample is made of; made once, asked about any number of claims.

    ``word_share`` of a claim's content words must stand in one place of one source.
    """

    def __init__(self, task_type: TaskType, texts: Sequence[str], *, word_share: float = WORDS_SUPPORTED) -> None:
        self._task_type = task_type
        self._word_share = word_share
        self._texts = [text[:MAX_CHARS] for text in texts]
        self._plain = [_plain(text) for text in self._texts]
        places = [tuple(dict.fromkeys(self._places_of(text))) for text in self._texts]
        # a source that lacks a claim's words as a whole has no place for it
        self._sources = [(frozenset().union(*(place.words for place in part)), part) for part in places]

    def _places_of(self, text: str) -> Iterable[_Place]:
        said = [(content_words(fact.text), bool(_NEGATION.search(fact.text))) for fact in claims(self._task_type, text)]
        for start in range(len(said)):
            for end in range(start + 1, min(start + NEIGHBORS, len(said)) + 1):
                part = said[start:end]
                denials = [denies for _, denies in part]
                yield _Place(frozenset().union(*(words for words, _ in part)), any(denials), all(denials))

    def support(self, claim: Fact) -> bool:
        """Whether some source says the claim."""
        if claim.part == "answer":
            keeper = Keeper([claim])
            return any(keeper.held(text) for text in self._texts)
        words = content_words(claim.text)
        if not words:  # "No.", "It is so.": said word for word, or not at all
            return any(_plain(claim.text) in plain for plain in self._plain)
        denies = bool(_NEGATION.search(claim.text))
        # a name at the head of a sentence cannot be told from a word: it is one of the words
        named = numbers(words).union(*(content_words(name) for name in _NAME.findall(claim.text, 1)))
        return any(
            (place.some_deny if denies else not place.all_deny) and self._has(place.words, words, named & words)
            for every, places in self._sources
            if len(words & every) >= WORTH_A_LOOK * len(words)
            for place in places
        )

    def _has(self, there: frozenset[str], words: frozenset[str], named: frozenset[str]) -> bool:
        had = words & there
        if len(had) < WORTH_A_LOOK * len(words) or not numbers(words) <= had:
            return False
        missing = words - had
        if missing and (len(had) < self._word_share * len(words) or not named <= had):
            had |= {word for word in missing if misspelt(word, there)}
        return named <= had and len(had) >= self._word_share * len(words)

    def unsupported(self, text: str) -> tuple[Fact, ...]:
        """The claims of a text of the sources' task type that no source supports, in order."""
        return tuple(claim for claim in claims(self._task_type, text) if not self.support(claim))


def claims(task_type: TaskType, text: str) -> tuple[Fact, ...]:
    """The facts that a text states; one without the task type's form is read as running text."""
    text = text[:MAX_CHARS]
    item = parse(task_type, text)
    facts = facts_of(Para(text) if item is None else item)
    return tuple(piece for fact in facts for piece in (_heads(fact) if fact.part == "head" else (fact,)))


def _heads(fact: Fact) -> tuple[Fact, ...]:
    """A question or category over two topics asks two things, each from a source of its own."""
    return tuple(Fact("head", piece) for piece in _TWO_HEADS.split(fact.text))


def _plain(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def misspelt(word: str, there: frozenset[str]) -> bool:
    """Whether one of ``there`` is ``word`` but for one letter changed, lost, put in, or two that changed places."""
    if len(word) < TYPO_CHARS or word[0].isdigit():
        return False
    return any(abs(len(other) - len(word)) <= 1 and _one_edit(word, other) for other in there)


def _one_edit(a: str, b: str) -> bool:
    shorter = min(len(a), len(b))
    head = 0
    while head < shorter and a[head] == b[head]:
        head += 1
    tail = 0
    while tail < shorter - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    ours, theirs = a[head : len(a) - tail], b[head : len(b) - tail]
    return max(len(ours), len(theirs)) <= 1 or (len(ours) == 2 and ours == theirs[::-1])
