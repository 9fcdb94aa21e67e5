"""Coverage: how much of what its cluster says an answer holds. Ours.

The texts of a cluster overlap, contradict each other and are damaged, so what they say has to be made out first:
facts that say the same are one fact, stated as most of them state it. Nobody's target is needed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from lm_mixup.distillers.extractive_clean import clean
from lm_mixup.distillers.extractive_polish import polish
from lm_mixup.distillers.extractive_words import content_words, numbers
from lm_mixup.distillers.facts import Fact, Keeper
from lm_mixup.distillers.support import MAX_CHARS, claims, misspelt
from lm_mixup.records import TaskType

SAME_WORDS = 0.7
"""Two facts are one if so large a share of the shorter one's words, numbers aside, stands in the longer one."""
HEADS_AGREE = 0.5
"""A question or category that half as many texts ask as the commonest one, or fewer, is a vague or broken one."""
_CLUSTERS_KEPT = 512

_LEAD_IN = re.compile(
    r"^(?:(?:as (?:said|mentioned|noted|far as i know)|to (?:be honest|repeat)|in (?:other words|general)|again|well|so"
    r"|it is worth noting(?: that)?|ok(?:ay)? so|um|uh|lol|basically|actually|honestly|i (?:guess|think|believe))"
    r"\b[,\s]\s{0,4})+",
    re.IGNORECASE,
)
"""What chat puts before a sentence, in English; it says nothing."""
_VAGUE = content_words("something someone somebody somewhere several certain some")
"""Words that stand where a detail is missing."""
_SMALL_START = re.compile(r"(?<=[a-z\d]{2}[.!?] )[a-z]")
_READ_WRONG = re.compile(r"(?<=[a-z])[01](?=[a-z])|\b1(?=[a-z]{3})")
_LETTERS = {"0": "o", "1": "l"}


def coverage(answer: str, variants: Sequence[str], task_type: TaskType) -> float:
    """The share (0–1) of the cluster's facts that an answer holds; 1 where the cluster says nothing.

    ``answer`` is what stands in the answer part, ``variants`` are the cluster's texts. A fact is held if the answer has
    its numbers and 70 % of its content words (:class:`lm_mixup.distillers.facts.Keeper`).
    """
    keeper = _keeper(task_type, tuple(variants))
    if not keeper.facts:
        return 1.0
    return len(keeper.held(answer[:MAX_CHARS])) / len(keeper.facts)


def held_facts(answer: str, variants: Sequence[str], task_type: TaskType) -> frozenset[int]:
    """The numbers of the cluster's facts that an answer holds; which fact is which depends on the cluster alone."""
    return _keeper(task_type, tuple(variants)).held(answer[:MAX_CHARS])


def facts_wanted(variants: Sequence[str], task_type: TaskType) -> Sequence[Fact]:
    """The cluster's facts, in the order of the numbers of :func:`held_facts`."""
    return _keeper(task_type, tuple(variants)).facts


# the rollouts of a group share their cluster
@lru_cache(maxsize=_CLUSTERS_KEPT)
def _keeper(task_type: TaskType, variants: tuple[str, ...]) -> Keeper:
    return Keeper(cluster_facts(variants, task_type))


@dataclass
class _Same:
    """Facts that say the same: the words of the first, and each fact with the number of the text that states it."""

    words: frozenset[str]
    members: list[tuple[Fact, frozenset[str], int]] = field(default_factory=list)

    @property
    def texts(self) -> int:
        return len({text for _, _, text in self.members})

    def stated(self) -> Fact:
        """The member that agrees best with the others: their commonest numbers, then the most words in common."""
        # a blurred or broken-off version has no numbers: it does not outvote those that have
        figures = Counter(n for _, words, _ in self.members if (n := numbers(words)))
        most = max(figures.values(), default=0)
        shared = Counter(word for _, words, _ in self.members for word in words)
        agreed = [m for m in self.members if figures[numbers(m[1])] == most]
        # the later of two equals would do as well; the longer one says more
        return max(agreed, key=lambda m: (sum(shared[word] - 1 for word in m[1]), len(m[1]), -m[2]))[0]


def cluster_facts(variants: Sequence[str], task_type: TaskType) -> tuple[Fact, ...]:
    """The different facts that the texts of a cluster state, in the order in which they come first."""
    said = [
        (Fact(fact.part, polish(_LEAD_IN.sub("", fact.text), first=True)), text)
        for text, variant in enumerate(variants)
        for fact in claims(task_type, _mended(variant))
    ]
    out: list[tuple[int, Fact]] = []
    for part in ("head", "option", "answer", "body"):
        groups = _groups([(order, fact, text) for order, (fact, text) in enumerate(said) if fact.part == part], part)
        if part == "head":
            most = max((group.texts for _, group in groups), default=0)
            groups = [(order, group) for order, group in groups if group.texts > HEADS_AGREE * most]
        out += [(order, group.stated()) for order, group in groups]
    return tuple(fact for _, fact in sorted(out, key=lambda pair: pair[0]))


def _groups(facts: Sequence[tuple[int, Fact, int]], part: str) -> list[tuple[int, _Same]]:
    """Facts of one part that say the same, each group with the place at which it comes first."""
    if part == "answer":  # one answer a cluster: what most texts say
        groups: list[tuple[int, _Same]] = []
        if facts:
            said = Counter(fact.text.casefold() for _, fact, _ in facts)
            order, fact, text = max(facts, key=lambda f: (said[f[1].text.casefold()], -f[0]))
            groups.append((order, _Same(frozenset(), [(fact, frozenset(), text)])))
        return groups
    firsts: list[tuple[int, _Same]] = []
    # the longest first: a broken-off fact then joins the whole one, and never the other way about
    for order, fact, text in sorted(facts, key=lambda f: (-len(content_words(f[1].text)), f[0])):
        words = content_words(fact.text)
        bare = words - numbers(words) - _VAGUE or words
        for place, (first, group) in enumerate(firsts):
            if _shared(bare, group.words) >= SAME_WORDS * len(bare):
                group.members.append((fact, words, text))
                firsts[place] = (min(first, order), group)
                break
        else:
            firsts.append((order, _Same(words, [(fact, words, text)])))
    return firsts


def _mended(text: str) -> str:
    """The text without mark-up, its sentences told apart, and digits that a scan put for letters put right."""
    text = clean(text[:MAX_CHARS], answer=False)
    text = _SMALL_START.sub(lambda found: found[0].upper(), text)
    return _READ_WRONG.sub(lambda found: _LETTERS[found[0]], text)


def _shared(words: frozenset[str], there: frozenset[str]) -> int:
    """How many of the words are there, one typing error each forgiven."""
    missing = words - there
    return len(words) - sum(not misspelt(word, there) for word in missing)
