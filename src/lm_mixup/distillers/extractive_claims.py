"""Claims: when two sentences contradict one another, and what the majority of answers says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from lm_mixup.distillers.extractive_units import SAME_LEAST, Answer, Fused, Unit, opens_leaning, same_claim
from lm_mixup.distillers.extractive_whole import is_whole
from lm_mixup.distillers.extractive_words import WORD, content_words, numbers

RIVAL_WORDS = 5
"""Two sentences that begin with so many equal words say two things of one, of which only one will be right."""
UNITS_READ = 200
"""Of an answer no more than so many units are looked at for something new."""
_NEGATIONS = re.compile(r"\b(?:not|no|never|neither|nor|cannot|without)\b|n't\b|n’t\b", re.IGNORECASE)


def contradicts(new: Unit, old: Unit) -> bool:
    """Whether two sentences speak of one thing, and one denies what the other says, or gives other figures for it."""
    begins = zip(WORD.findall(new.body[:120]), WORD.findall(old.body[:120]), strict=False)
    if sum(1 for _ in takewhile(lambda pair: pair[0].casefold() == pair[1].casefold(), begins)) >= RIVAL_WORDS:
        return True  # "The honeycomb was invented by …", by two different people
    mine, theirs = numbers(new.stems), numbers(old.stems)
    a, b = new.stems - mine, old.stems - theirs
    shared = len(a & b)
    if shared < 2:
        return False
    close = shared >= 0.5 * min(len(a), len(b))
    if close and (_NEGATIONS.search(new.body) is None) != (_NEGATIONS.search(old.body) is None):
        return True
    if not mine or not theirs or not mine.isdisjoint(theirs):
        return False
    return close or shared >= SAME_LEAST + 1 or _head(new.body) == _head(old.body)


def _head(sentence: str) -> list[str]:
    """The first two content words of a sentence: what it is about, and what it says of it."""
    return [stem for word in WORD.findall(sentence[:80]) for stem in sorted(content_words(word))][:2]


def correct(base: Answer, others: Sequence[Answer], fused: Fused) -> tuple[list[Unit], int]:
    """The base's units, with each claim whose numbers or negation most others contradict replaced by theirs.

    A claim is a group of sentences that say the same but for their numbers. The majority of members decides; where
    there is none, the base stands, since it is the best rated.
    """
    units, corrected = list(base.units), 0
    for index, unit in enumerate(units):
        if not unit.prose or not unit.stems:
            continue
        mine = (numbers(unit.stems), _NEGATIONS.search(unit.body) is not None)
        words = unit.stems - mine[0]
        votes: Counter[tuple[frozenset[str], bool]] = Counter({mine: 1})
        voices: dict[tuple[frozenset[str], bool], Unit] = {}
        for answer in others:
            for other in answer.units[:UNITS_READ]:
                theirs = numbers(other.stems)
                if other.prose and len(theirs) == len(mine[0]) and same_claim(words, other.stems - theirs):
                    stance = (theirs, _NEGATIONS.search(other.body) is not None)
                    votes[stance] += 1
                    voices.setdefault(stance, other)
                    break
        stance, count = max(votes.items(), key=lambda pair: (pair[1], pair[0] == mine))
        if stance != mine and count >= 2 and count > votes[mine]:
            voice = voices[stance]
            if is_whole(voice.body) and (index == 0 or not opens_leaning(voice.body)):
                units[index] = Unit(voice.kind, voice.body, unit.gap, voice.stems, voice.member, unit.position)
                fused.taken[voice.member] += 1
                fused.taken[base.member] -= 1
                corrected += 1
    return units, corrected
