"""What a target says, fact by fact, and how much of it a set of texts still holds.

A fact is a sentence, or a clause of a long one, of the item's body; and what stands at its head: the question, the
statement, the category, each option, the answer. A text holds a fact if it has its numbers and most of its words that
say something. The measure looks at the texts as they come out, noise and all; it knows nothing of how they were made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lm_mixup.distillers.extractive_words import content_words, numbers
from lm_mixup.distillers.segments import split_sentences
from lm_mixup.task_types import CS, LETTERS, MCQ, QA, TFQ, Item, Para

WORDS_HELD = 0.7
"""Share of a fact's content words that a text must have to hold it: a typing error or two do not lose a fact."""
_TOKEN = re.compile(r"\w+")
CLAUSE_WORDS = 14
"""Sentences of at least so many words are taken clause by clause."""
MIN_CLAUSE_WORDS = 5
_CLAUSE = re.compile(
    r"(?<=[,;])\s+(?=(?:and|but|or|which|who|where|while|although|though|because|whereas|with|including|so|when|after"
    r"|before|as|since|making|being|leading|resulting)\b)|(?<=[;:])\s+"
)


_OPTION_ANSWER = re.compile(r"^[A-J]\) ")
_HEAD_ENDS = re.compile(r"\n(?:A:|S:|A\)|Answer:)")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: ``part`` is ``head``, ``option``, ``answer`` or ``body``; ``text`` is the exact piece."""

    part: str
    text: str


def facts_of(item: Item) -> tuple[Fact, ...]:
    """The facts of an item: head first, then options and answer, then the body's units in order."""
    match item:
        case QA(question, answer):
            return (Fact("head", question), *_units(answer))
        case CS(category, statement):
            return (Fact("head", category), *_units(statement))
        case Para(text, _):
            return tuple(_units(text))
        case TFQ(statement, verdict, reason):
            return (Fact("head", statement), Fact("answer", f"Answer: {verdict}"), *_units(reason))
        case MCQ(question, options, answer, reason):
            listed = tuple(Fact("option", option) for option in options)
            said = Fact("answer", f"Answer: {LETTERS[answer]}) {options[answer]}")
            return (Fact("head", question), *listed, said, *_units(reason))


def facts_of_all(items: Sequence[Item]) -> tuple[Fact, ...]:
    """The facts of several items, one after the other: those of a target over several topics."""
    return tuple(fact for item in items for fact in facts_of(item))


def _units(text: str) -> list[Fact]:
    units: list[str] = []
    for sentence in split_sentences(text):
        sentence = sentence.strip()
        if len(sentence.split()) < CLAUSE_WORDS:
            units.append(sentence)
            continue
        held = ""
        for clause in _CLAUSE.split(sentence):
            if not held and units and _goes_on_list(units[-1], clause) and units[-1] in sentence:
                held = units.pop()
            held = f"{held} {clause}" if held else clause
            if len(held.split()) >= MIN_CLAUSE_WORDS and _closed(held):
                units.append(held)
                held = ""
        if held:
            if units and len(held.split()) < MIN_CLAUSE_WORDS and units[-1] in sentence:
                units[-1] = f"{units[-1]} {held}"
            else:
                units.append(held)
    return [Fact("body", unit) for unit in units if unit]


def _goes_on_list(before: str, clause: str) -> bool:
    """Whether ``clause`` is the end of a list ("…, clothing," and then "and diet in East Asia"), no clause at all."""
    last = before.rstrip(",;").rpartition(",")[2]
    return clause.startswith(("and ", "or ", "including ")) and len(last.split()) < MIN_CLAUSE_WORDS


def _closed(text: str) -> bool:
    return text.count("(") == text.count(")") and text.count('"') % 2 == 0


@dataclass(frozen=True, slots=True)
class _Needs:
    words: frozenset[str]
    numbers: frozenset[str]
    literal: str
    answer: re.Pattern[str] | None = None


class Keeper:
    """Tells which facts a text holds. Made once for a target: what its facts need is worked out once."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self._needs = [_needs(fact) for fact in facts]
        self._headed = bool(facts) and any(fact.part == "head" for fact in facts)

    def held(self, text: str) -> frozenset[int]:
        """The numbers of the facts that the text holds: those of the head at its head, the others after it."""
        found = _HEAD_ENDS.search(text) if self._headed else None
        head, rest = (text[: found.start()], text[found.start() :]) if found else (text, text)
        views = {"head": (content_words(head), _plain(head)), "rest": (content_words(rest), _plain(rest))}
        out = []
        for number, (fact, need) in enumerate(zip(self.facts, self._needs, strict=True)):
            words, plain = views["head" if fact.part == "head" else "rest"]
            if _holds(words, plain, need):
                out.append(number)
        return frozenset(out)

    def missing(self, texts: Sequence[str]) -> list[int]:
        """The numbers of the facts that no text holds."""
        held = frozenset[int]().union(*map(self.held, texts))
        return [number for number in range(len(self.facts)) if number not in held]


def coverage(facts: Sequence[Fact], texts: Sequence[str]) -> float:
    """The share (0–1) of the facts that the texts hold together; 1 for no facts."""
    return 1.0 - len(Keeper(facts).missing(texts)) / len(facts) if facts else 1.0


def _plain(text: str) -> str:
    """The words and numbers of a text in small letters, one space before, between and after."""
    return f" {' '.join(_TOKEN.findall(text.casefold()))} "


def _needs(fact: Fact) -> _Needs:
    words = content_words(fact.text)
    if fact.part == "answer":
        said = fact.text.removeprefix("Answer: ")
        # a variant that lacks an option names the same answer by another letter
        letter = r"[a-j] " if _OPTION_ANSWER.match(said) else ""
        option = _plain(_OPTION_ANSWER.sub("", said)).strip()
        return _Needs(words, frozenset(), "", re.compile(rf" answer {letter}{re.escape(option)} "))
    return _Needs(words, numbers(words), f" {_plain(fact.text).strip()} " if not words else "")


def _holds(words: frozenset[str], plain: str, need: _Needs) -> bool:
    if need.answer is not None:
        return need.answer.search(plain) is not None
    if need.literal:
        return need.literal in plain
    return need.numbers <= words and len(need.words & words) >= WORDS_HELD * len(need.words)
