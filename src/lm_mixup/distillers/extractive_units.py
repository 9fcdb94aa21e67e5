"""Answers as units (sentences and blocks), and when two of them say the same."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lm_mixup.distillers.extractive_polish import polish
from lm_mixup.distillers.extractive_whole import breaks_off, is_filler, is_finished, is_meta, is_whole, whole_segments
from lm_mixup.distillers.extractive_words import WORD, content_order, content_words, numbers, word_set
from lm_mixup.distillers.segments import Kind, Segment, lost_capitals

SAME_JACCARD = 0.5
"""Two sentences with so large a share of their content words in common say the same."""
SAME_CONTAINMENT = 0.8
"""So does a sentence (of at least :data:`SAME_LEAST` content words) most of whose words stand in one other sentence."""
SAME_LEAST = 3
REPEAT_JACCARD = 0.75
"""Within one answer only a sentence with so large a share of an earlier one's words is a repeat of it."""
REPEAT_REACH = 60
"""A repeat is looked for among so many units before a sentence: a book-long answer stays linear."""
STUMP_WORDS = 4
"""A first sentence in lower case of so few words, before one in upper case, is the end of a sentence cut off."""
LINE_CHARS = 30
"""Lines of prose that are at least so long on average were broken after each sentence by a tool, not by an author."""

_ANAPHORA = re.compile(
    r"(?:this|these|those|that|it|its|they|their|them|he|she|his|her|such|another|other|the (?:latter"
    r"|former|same|above|following|second|third|last|next|other|result)"
    r"|however|but|and|or|so|also|then|thus|therefore|hence|moreover|furthermore|additionally|besides"
    r"|still|yet|instead|otherwise|similarly|likewise|meanwhile"
    r"|nevertheless|nonetheless|consequently|as a result|for (?:example|instance|this)|in (?:addition"
    r"|contrast|fact|other words|this|that|conclusion|summary|short)"
    r"|on the other hand|overall|finally|lastly|secondly|second|thirdly|third|first|firstly|next|after "
    r"(?:that|this)|because of this|both|one of|even)\b",
    re.IGNORECASE,
)
_DEFINES = re.compile(r"((?:\S+ ){1,6}?)(?:is|are|was|were|refers?|means?)\b")
_PRONOUN = re.compile(
    r"(?:(?:they|their|it|its|he|she|his|her)\b|(?:most|some|many|all|one|each|both|the \w+) of (?:them|it)\b)",
    re.IGNORECASE,
)
_EMPTY_IT = re.compile(
    r"it(?:['’]s| is| was| takes)(?: (?:also|not|very|quite|always|often|usually|a|an|the|best|more"
    r"|important))*(?: \w+){1,2}? (?:to|that)\b",
    re.IGNORECASE,
)
"""The "it" of "It is easy to …" stands for nothing that was said."""
_BROKEN_BEHIND = re.compile(r"(?:(?<=\be\.g\.)|(?<=\bi\.e\.)|(?<=\beg\.)|(?<=\bie\.))\n(?=[a-z])")
"""A line that a sentence splitter broke behind an abbreviation."""
_LEANING = word_set("this these those such they it he she them")
"""Words that, among the first few of a sentence, lean on the one before."""
_LEANING_REACH = 4
_SECOND_PERSON = re.compile(r"\b(?:you|your|yours|yourself)\b", re.IGNORECASE)
_VERDICT = re.compile(r"(yes|no|true|false|yeah|nope|correct|incorrect)\b", re.IGNORECASE)
_VERDICTS = {
    "yes": True,
    "true": True,
    "yeah": True,
    "correct": True,
    "no": False,
    "nope": False,
    "false": False,
    "incorrect": False,
}


@dataclass(slots=True, eq=False)
class Unit:
    """A sentence or block on its way into an answer. ``gap`` is the white space that follows it."""

    kind: Kind
    body: str
    gap: str
    stems: frozenset[str]
    member: int
    position: int
    group: int = -1

    @property
    def prose(self) -> bool:
        """Whether the unit is a sentence."""
        return self.kind is Kind.PROSE


@dataclass(slots=True)
class Answer:
    """One member's cleaned answer as units; ``dropped`` of them were unfit, a share ``lost`` of the text."""

    member: int
    rating: float
    units: list[Unit]
    dropped: int
    stems: frozenset[str]
    text: str
    lost: float = 0.0

    @property
    def first(self) -> str:
        """The first unit's text, or ""."""
        return self.units[0].body if self.units else ""


@dataclass(slots=True)
class Fused:
    """A fused text: who went in with how many units, how many units were left out as said before or unfit."""

    text: str
    taken: Counter[int] = field(default_factory=Counter)
    repeats: int = 0
    unfit: int = 0
    corrected: int = 0


def read_answer(text: str, member: int, rating: float) -> Answer:
    """A cleaned text as units, whole ones only."""
    segments, dropped = whole_segments(text)
    segments = [
        Segment(piece.kind, part)
        for piece in segments
        for part in (lost_capitals(piece.text, words=STUMP_WORDS) if piece.kind is Kind.PROSE else [piece.text])
    ]
    if segments and segments[-1].kind is Kind.PROSE and is_finished(segments[-1].text, text_chars=len(text)):
        segments[-1] = Segment(Kind.PROSE, segments[-1].text.rstrip() + ".")
    units: list[Unit] = []
    for position, piece in enumerate(segments):
        body = piece.body
        if piece.kind is Kind.PROSE:
            body = polish(_BROKEN_BEHIND.sub(" ", body), first=not units)
        gap = piece.text[len(piece.text.rstrip()) :]
        if piece.kind is Kind.PROSE and units and position + 1 < len(segments) and is_filler(body):
            dropped += 1
            continue
        unit = Unit(piece.kind, body, gap, content_words(body), member, position)
        if piece.kind is Kind.PROSE and any(u.prose and _repeats(unit, u) for u in units[-REPEAT_REACH:]):
            dropped += 1
            if "\n\n" in gap and units[-1].gap == " ":
                units[-1].gap = "\n\n"
            continue
        units.append(unit)
    dropped += _trim(units)
    _reflow(units)
    stems = frozenset().union(*(unit.stems for unit in units)) if units else frozenset()
    rendered = render(units)
    lost = max(0.0, 1.0 - len(rendered) / max(1, len(text)))
    return Answer(member, rating, units, dropped, stems, rendered, lost)


def _trim(units: list[Unit]) -> int:
    """Takes off what speaks to the user at both ends ("I hope this helps!", "What is your budget?"); how many."""
    before = len(units)
    while (
        len(units) > 1
        and units[-1].prose
        and (
            is_meta(units[-1].body)
            or units[-1].body.endswith(":")
            or (units[-1].body.endswith("?") and _SECOND_PERSON.search(units[-1].body))
        )
    ):
        units.pop()
    while len(units) > 1 and units[0].prose and is_meta(units[0].body) and not units[0].body.endswith(":"):
        units.pop(0)
    # the rest of a sentence whose beginning was cut off: "are prime. Prime numbers of this form …"
    if (
        len(units) > 1
        and all(u.prose for u in units[:2])
        and units[0].body[:1].islower()
        and units[1].body[:1].isupper()
        and len(units[0].body.split()) <= STUMP_WORDS
    ):
        units.pop(0)
    return before - len(units)


def _reflow(units: list[Unit]) -> None:
    """One space between sentences, also where a text has each of its sentences on a line of its own."""
    gaps = [u.gap for u in units[:-1] if u.prose]
    lines = [u for u in units[:-1] if u.prose and u.gap.count("\n") == 1]
    # verse and dialogue have short lines, or lines without a full stop
    reflow = (
        lines
        and all(is_whole(u.body) and not u.body.endswith(":") for u in lines)
        and sum(len(u.body) for u in lines) >= LINE_CHARS * len(lines)
    )
    for unit, after in itertools.pairwise(units):
        if not unit.prose or not gaps:
            continue
        if "\n" not in unit.gap:
            unit.gap = " " if unit.gap else ""
        elif reflow and unit.gap.count("\n") == 1 and after.prose:
            unit.gap = " "


def _repeats(unit: Unit, earlier: Unit) -> bool:
    shared = len(unit.stems & earlier.stems)
    if shared < SAME_LEAST or numbers(unit.stems) - earlier.stems:
        return False
    return shared >= REPEAT_JACCARD * (len(unit.stems) + len(earlier.stems) - shared)


def render(units: Sequence[Unit]) -> str:
    """Units as a text: each with its own gap, blocks on lines of their own."""
    parts: list[str] = []
    for number, unit in enumerate(units):
        parts.append(unit.body)
        if number + 1 == len(units):
            break
        gap = unit.gap or ("" if unit.body[-1:] in "。！？｡" else " ")
        if not (unit.prose and units[number + 1].prose):
            gap = gap if "\n" in gap else "\n\n" if unit.prose and not unit.body.endswith(":") else "\n"
            if Kind.TABLE in (unit.kind, units[number + 1].kind) or unit.kind is Kind.LIST:
                gap = "\n\n" if gap == "\n" else gap
        parts.append(gap)
    return "".join(parts)


def finish_sentences(units: Sequence[Unit]) -> None:
    """A full stop for each sentence that ended its own text without one, and now has another behind it."""
    for unit, after in itertools.pairwise(units):
        if (
            unit.prose
            and after.prose
            and "\n" not in unit.gap
            and unit.body[-1].isalnum()
            and not breaks_off(unit.body)
        ):
            unit.body += "."


def same_claim(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two sentences (their content words) say the same."""
    if not a or not b:
        return False
    shared = len(a & b)
    if shared >= SAME_JACCARD * (len(a) + len(b) - shared):
        return shared >= min(SAME_LEAST, len(a), len(b))
    smaller = min(len(a), len(b))
    return smaller > SAME_LEAST and shared >= SAME_CONTAINMENT * smaller


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared share of the smaller set, in [0, 1]; 0 where one is empty."""
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def verdict(text: str) -> bool | None:
    """The yes or no that an answer begins with."""
    found = _VERDICT.match(text)
    return _VERDICTS[found[1].casefold()] if found else None


def verdict_only(text: str) -> bool | None:
    """The yes or no that is all of an answer."""
    return verdict(text) if len(WORD.findall(text)) == 1 else None


def opens_leaning(sentence: str) -> bool:
    """Whether a sentence begins with a word that ties it to the one before ("However", "They", "For example")."""
    return _ANAPHORA.match(sentence) is not None


def leans(sentence: str) -> bool:
    """Whether a sentence needs the one before it to be understood."""
    if _EMPTY_IT.match(sentence):
        return False
    return _ANAPHORA.match(sentence) is not None or any(
        word.casefold() in _LEANING for word in WORD.findall(sentence[:60])[:_LEANING_REACH]
    )


def leans_on_subject(sentence: str) -> bool:
    """Whether a sentence leans by a pronoun for what the request is about, early in it, and by nothing else."""
    return _PRONOUN.match(sentence) is not None


def defines(sentence: str, subject: frozenset[str]) -> bool:
    """Whether a sentence says what its subject is: "A black hole is a region …"."""
    found = _DEFINES.match(sentence)
    if found is None:
        return False
    named = content_order(WORD.findall(found[1]))
    # "The boundary around a black hole is …" says what the boundary is
    return bool(named) and named[0] in subject and subject <= set(named)


def open_with_definition(chosen: list[Unit], subject: frozenset[str]) -> None:
    """Moves the sentence that opens its own text and says what the subject is to the front, with what leans on it."""
    if not subject or defines(chosen[0].body, subject):
        return
    at = next((i for i, u in enumerate(chosen) if u.prose and u.position == 0 and defines(u.body, subject)), 0)
    end = at + 1
    while end < len(chosen) and leans(chosen[end].body):
        end += 1
    if at and all(unit.prose for unit in chosen[:end]):
        moved = chosen[at:end]
        if moved[-1].gap != " ":
            moved[-1].gap, chosen[at - 1].gap = " ", moved[-1].gap
        del chosen[at:end]
        chosen[:0] = moved
