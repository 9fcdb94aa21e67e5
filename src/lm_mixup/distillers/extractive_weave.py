"""Weaving: a base whose text and order stand, and single sentences of others that say something new."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from lm_mixup.distillers.extractive_claims import UNITS_READ, contradicts, correct
from lm_mixup.distillers.extractive_units import (
    Answer,
    Fused,
    Unit,
    defines,
    finish_sentences,
    leans,
    leans_on_subject,
    open_with_definition,
    render,
    same_claim,
    verdict,
)
from lm_mixup.distillers.extractive_whole import is_meta, is_refusal, is_whole, items_of, renumber
from lm_mixup.distillers.extractive_words import content_words, word_set
from lm_mixup.distillers.segments import Kind, Segment, list_items

NOVEL_SHARE = 0.4
"""A sentence adds information where so large a share of its content words has not been said yet …"""
NOVEL_LEAST = 3
"""… and no fewer than so many; one fewer will do …"""
NOVEL_SHORT_SHARE = 0.5
"""… where they are so large a share."""
SENTENCE_WORDS = (4, 60)
"""Sentences of fewer or more words are not woven in: fragments and run-ons."""
TOPIC_LEAST = 1
"""A sentence is on the topic where it shares so many content words with the question, or …"""
TOPIC_BASE_LEAST = 2
"""… so many with the base's answer."""
SUBJECT_REACH = 4
"""A sentence whose first words, so many, name the subject is about it."""
HOME_SHARE = 0.2
"""A sentence that no neighbour places goes behind the most similar one, if that has so large a share of its words."""
ITEM_LEAST = 3
"""A list with fewer items is not brought in whole."""


_CLOSING = re.compile(
    r"(?:in (?:conclusion|summary|short|the end)|overall|to (?:sum up|summari[sz]e|conclude)|finally"
    r"|ultimately|all in all|remember|with these|by following)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|I'd|I'll|my|me|mine|myself)\b")
_COUNTS = word_set("two three four fiv six seven eight nin ten twelv twent")
_LABELLED = re.compile(r"[^\W\d_][\w '-]{0,30}:\s")


def weave(
    base: Answer,
    others: Sequence[Answer],
    question: frozenset[str],
    *,
    max_added: int,
    max_chars: int,
    veto: Callable[[str, Sequence[str]], bool] | None = None,
    subject: frozenset[str] = frozenset(),
    reasons: bool = False,
) -> Fused:
    """The base with what the others add, at most ``max_added`` units and ``max_chars`` characters in all.

    ``others`` in order of preference. A sentence goes in where it is whole, of a fit length, on the topic, in the
    base's person, new (see the constants above), contradicts nothing, and can stand where it lands: one that leans on
    the sentence before it ("They …", "However, …") goes in only right behind that one; or, where ``subject`` says what
    an open request is about, behind a sentence on the subject, if it opens its answer and so can mean only that. With
    ``reasons`` the answers are reasons for one statement: the first sentence of each is on the topic, and its pronoun
    means what the statement speaks of. ``veto`` (sentence, sentences that are in) has the last word against a sentence.
    """
    fused = Fused("", Counter({base.member: len(base.units)}), unfit=base.dropped + sum(a.dropped for a in others))
    units = list(base.units)
    if others and len(base.text) < max_chars and not is_refusal(base.first):
        units, fused.corrected = correct(base, others, fused)
        weaving = _Weaving(base, units, question, fused, max_added, max_chars, veto, subject, reasons)
        for answer in others:
            weaving.take(replace(answer, units=answer.units[:UNITS_READ]))
    open_with_definition(units, subject)
    finish_sentences(units)
    fused.text = render(units)
    return fused


class _Weaving:
    """One base on its way to a fused answer; ``units`` and ``fused`` are changed in place."""

    def __init__(
        self,
        base: Answer,
        units: list[Unit],
        question: frozenset[str],
        fused: Fused,
        max_added: int,
        max_chars: int,
        veto: Callable[[str, Sequence[str]], bool] | None,
        subject: frozenset[str],
        reasons: bool,
    ) -> None:
        self.units, self.question, self.fused, self.veto, self.subject = units, question, fused, veto, subject
        self.reasons = reasons
        self.max_chars, self.left = max_chars, max_added
        self.base_stems = base.stems
        self.verdict = verdict(base.first)
        self.personal = _FIRST_PERSON.search(base.text) is not None
        self.covered = set().union(*(u.stems for u in units)) if units else set()
        self.size = sum(len(u.body) + len(u.gap) for u in units)
        # who asks for ten names gets ten
        self.counted = any(one.isdigit() for one in question) or not question.isdisjoint(_COUNTS)
        self.sectioned = any(
            u.kind is Kind.HEADING or (u.kind is Kind.LIST and after.prose and len(list_items(u.body)) == 1)
            for u, after in pairwise(units)
        )

    def take(self, answer: Answer) -> None:
        """Puts in what an answer adds."""
        theirs = verdict(answer.first)
        if is_refusal(answer.first) or (None not in (self.verdict, theirs) and self.verdict != theirs):
            self.fused.unfit += len(answer.units)
            return
        # where each of the answer's units stands in the fused text: itself, or the one that says the same
        landed: dict[int, Unit] = {}
        for unit in answer.units:
            twin = next((u for u in self.units if u.prose == unit.prose and same_claim(u.stems, unit.stems)), None)
            if twin is not None:
                landed[unit.position] = twin
        for number, unit in enumerate(answer.units):
            if unit.position in landed:
                twin = landed[unit.position]
                if not (unit.kind is twin.kind is Kind.LIST and self._grow(twin, unit, answer.member)):
                    self.fused.repeats += 1
                continue
            new = unit.stems - self.covered
            # a list is weighed item by item when it grows another
            if not _is_new(new, unit):
                self.fused.repeats += 1
            elif self.left <= 0 or self.size + len(unit.body) + 2 > self.max_chars:
                self.fused.unfit += 1
            elif self._place(answer, number, landed):
                landed.setdefault(unit.position, unit)
                self.covered |= unit.stems
                self.left -= 1
            else:
                self.fused.unfit += 1

    def _place(self, answer: Answer, number: int, landed: dict[int, Unit]) -> bool:
        """Puts one new unit where it belongs; whether there was such a place."""
        unit = answer.units[number]
        before = answer.units[number - 1] if number else None
        if unit.prose:
            anchor = landed.get(before.position) if before else self._on_subject(unit)
            after = answer.units[number + 1] if number + 1 < len(answer.units) else None
            opens = self.reasons and number == 0
            if not self._fits(unit, anchor, opens=opens):
                return False
            if opens and leans(unit.body):
                unit.gap = " "  # it speaks of what the statement speaks of, and so comes first
                self.units.insert(0, unit)
            elif not _insert(self.units, unit, anchor, landed.get(after.position) if after else None):
                return False
            self.size += len(unit.body) + 1
            self.fused.taken[answer.member] += 1
            return True
        if unit.kind is not Kind.LIST or self.counted:
            return False  # code, formulas and tables belong to their own answer's argument
        mine = next((u for u in self.units if u.kind is Kind.LIST), None)
        if mine is not None:
            landed[unit.position] = mine
            return self._grow(mine, unit, answer.member)
        if before is None or before.position in landed or not _leads(before, self.question, unit):
            return False
        _append_block(self.units, [before, unit])
        self.size += len(before.body) + len(unit.body) + 4
        self.fused.taken[answer.member] += 2
        return True

    def _fits(self, unit: Unit, anchor: Unit | None, *, opens: bool) -> bool:
        # what follows a sentence that is in goes on with its topic; what comes from elsewhere has to share words
        on_topic = (
            anchor is not None
            or opens
            or len(unit.stems & self.question) >= TOPIC_LEAST
            or len(unit.stems & self.base_stems) >= TOPIC_BASE_LEAST
        )
        if not on_topic or not _fit_sentence(unit, personal=self.personal):
            return False
        if anchor is None and (self.sectioned or (leans(unit.body) and not (opens and leans_on_subject(unit.body)))):
            return False  # whose section it belongs to, or what it speaks of, could not be told
        if leans(unit.body) and _CLOSING.match(unit.body):
            return False
        present = [u for u in self.units if u.prose]
        if any(contradicts(unit, u) for u in present):
            return False
        return self.veto is None or not self.veto(unit.body, [u.body for u in present])

    def _on_subject(self, unit: Unit) -> Unit | None:
        """The sentence behind which one goes that opens its answer and leans on the subject of the request."""
        if not self.subject or not leans_on_subject(unit.body):
            return None
        prose = [u for u in self.units if u.prose]
        named = [u for u in prose if self.subject <= content_words(" ".join(u.body.split()[:SUBJECT_REACH]))]
        found = next((u for u in prose if defines(u.body, self.subject)), named[-1] if named else None)
        for unit_after in prose[prose.index(found) + 1 :] if found else []:
            if not leans(unit_after.body):
                break
            found = unit_after
        return found

    def _grow(self, mine: Unit, theirs: Unit, member: int) -> bool:
        if self.counted:
            return False
        grown = _grow_list(mine, theirs, self.covered, self.max_chars - self.size)
        if grown:
            self.size += grown
            self.fused.taken[member] += 1
        return grown > 0


def _is_new(new: frozenset[str] | set[str], unit: Unit) -> bool:
    """Whether the content words of a unit that are new are enough to make it worth its place."""
    if len(new) >= NOVEL_LEAST:
        return not unit.prose or len(new) >= NOVEL_SHARE * len(unit.stems)
    return unit.prose and len(new) == NOVEL_LEAST - 1 and len(new) >= NOVEL_SHORT_SHARE * len(unit.stems)


def _leads(lead: Unit | None, question: frozenset[str], block: Unit) -> bool:
    """Whether a lead-in opens a list that answers the question, and can stand without what is before it."""
    return (
        lead is not None
        and lead.body.endswith((":", "："))
        and not leans(lead.body)
        and not _FIRST_PERSON.search(lead.body)
        and len(lead.stems & question) >= min(TOPIC_BASE_LEAST, len(question))
        and len(list_items(block.body)) >= ITEM_LEAST
    )


def _fit_sentence(unit: Unit, *, personal: bool) -> bool:
    """Whether a sentence can stand in another text: whole, of a fit length, plain, in a person that the text has."""
    words = unit.body.split()
    if not SENTENCE_WORDS[0] <= len(words) <= SENTENCE_WORDS[1] and not (
        len(words) < 5 and not unit.body.isascii() and len(unit.body) >= 8
    ):
        return False
    if not is_whole(unit.body) or unit.body.endswith((":", "?", "：", "？")) or "\n" in unit.body:
        return False
    if unit.body[0].islower() or is_meta(unit.body) or is_refusal(unit.body):
        return False
    if any(unit.body.count(left) != unit.body.count(right) for left, right in ("()", "[]")) or _LABELLED.match(
        unit.body
    ):
        return False
    if unit.body.count('"') % 2:
        return False
    return personal or not _FIRST_PERSON.search(unit.body)


def _insert(units: list[Unit], unit: Unit, before: Unit | None, after: Unit | None) -> bool:
    """Puts a sentence behind the one it followed at home, or before the one it led to, or beside the most similar.

    Never first, and never between a lead-in ("Here are some ideas:") and its list; False where no place is left.
    """
    prose = [i for i, u in enumerate(units) if u.prose and not u.body.endswith((":", "："))]
    if before is not None and before.prose:
        at = units.index(before) + 1
    elif after is not None and after.prose and units.index(after) > 0 and not leans(after.body):
        at = units.index(after)
    elif prose:
        # the latest of the sentences that share most words with it; without any, the end of the prose
        best, at = max((len(units[i].stems & unit.stems) / (len(unit.stems) or 1), i) for i in prose)
        if best < HOME_SHARE:
            at = _before_closing(units, prose)
        while (
            at + 1 < len(units)
            and units[at + 1].prose
            and leans(units[at + 1].body)
            and not _CLOSING.match(units[at + 1].body)
        ):
            at += 1
        if _CLOSING.match(units[at].body) and at > 0 and units[at - 1].prose:
            at -= 1
        at += 1
    else:
        return False
    if units[at - 1].prose:
        if units[at - 1].body.endswith((":", "：")):
            return False
        unit.gap, units[at - 1].gap = units[at - 1].gap, " "
    else:
        unit.gap = units[at - 1].gap = "\n\n"
    units.insert(at, unit)
    return True


def _before_closing(units: list[Unit], prose: list[int]) -> int:
    """The last sentence before the closing paragraph ("Overall, …"), where there is one; otherwise the last."""
    start = prose[-1]
    while start > 0 and units[start - 1].prose and "\n\n" not in units[start - 1].gap:
        start -= 1
    return start - 1 if start - 1 in prose and _CLOSING.match(units[start].body) else prose[-1]


def _append_block(units: list[Unit], block: list[Unit]) -> None:
    at = len(units)
    while at > 1 and units[at - 1].prose and _CLOSING.match(units[at - 1].body):
        at -= 1
    if at:
        units[at - 1].gap = "\n\n"
    block[0].gap, block[-1].gap = "\n", "\n\n"
    units[at:at] = block


def _grow_list(mine: Unit, theirs: Unit, covered: set[str], room: int) -> int:
    """Adds to a list the new items of another of the same kind, at most ``room`` characters; how many it grew by."""
    own = list(items_of(Segment(Kind.LIST, mine.body)))
    other = list(items_of(Segment(Kind.LIST, theirs.body)))
    if not own or not other or own[0][0].strip()[:1].isdigit() != other[0][0].strip()[:1].isdigit():
        return 0
    if not is_whole(own[-1][1]) and is_whole(other[0][1]):
        return 0
    longest = 2 * max(len(text) for _, text in own)
    own_stems = [content_words(text) for _, text in own]
    body = mine.body
    for _, text in other:
        stems = content_words(text)
        new = stems - covered
        text = text.strip()
        if len(new) < 2 or len(new) < NOVEL_SHARE * len(stems) or any(same_claim(stems, one) for one in own_stems):
            continue
        label = _LABELLED.match(text)
        if label and any(item.startswith(label[0]) for _, item in own):
            continue
        if len(text) > longest or "\n" in text or (is_whole(own[-1][1]) and not is_whole(text)):
            continue
        if len(body) + len(text) + len(own[-1][0]) + 2 > len(mine.body) + room:
            break
        separator = "\n\n" if "\n\n" in mine.body else "\n"
        body += separator + own[-1][0] + text
        own_stems.append(stems)
        covered |= stems
    grown = len(body) - len(mine.body)
    if grown:
        mine.body = renumber(body)
        mine.stems = content_words(body)
    return grown
