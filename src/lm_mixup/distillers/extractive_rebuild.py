"""Rebuilding one text from its variants: every claim once, its cleanest copy, in the order that most variants have.

Near-equal sentences are one claim; the cleanest copy is mended by the others, word by word. No word comes from nowhere.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from lm_mixup.distillers.extractive_units import (
    SAME_CONTAINMENT,
    SAME_JACCARD,
    SAME_LEAST,
    Answer,
    Fused,
    Unit,
    finish_sentences,
    leans,
    open_with_definition,
    render,
)
from lm_mixup.distillers.extractive_whole import is_meta, is_whole
from lm_mixup.distillers.extractive_words import WORD, content_words

OPENING_WEIGHT = 0.25
"""By how much a variant's vote on the order weighs more for opening with a definition, less for "
"opening with a "they"."""
UNITS_READ = 60
"""Of a variant no more than so many units are looked at: ordering them is cubic in their number."""
PART_WORDS = 5
"""Two sentences that a lost capital letter had joined are parted where each has so many words."""

_LOST_CAPITAL = re.compile(r"(?<=[A-Za-z\d)\]]{2}[.!?])\s+(?=[a-z])")
_DEFINES = re.compile(
    r"(?:[A-Z\d\"'(][^\s]*|of|the|and|in|for|de|von|a|an)(?:\s+\S+){0,8}?\s(?:is|was|are|were)\s(?:a|an|the|one)\b"
)


def rebuild(answers: Sequence[Answer], *, max_chars: int, subject: frozenset[str] = frozenset()) -> Fused:
    """One text from variants of it, the best-rated first: every claim once, in the order most variants agree on."""
    fused = Fused("", unfit=sum(a.dropped for a in answers))
    if len(answers) == 1 or len(answers[0].text) >= max_chars:
        alone = answers[0]
        return Fused(alone.text, Counter({alone.member: len(alone.units)}), unfit=fused.unfit)
    answers = [replace(answer, units=_split_lower(answer.units[:UNITS_READ])) for answer in answers]
    groups: list[list[Unit]] = []
    for answer in answers:
        taken: set[int] = set()
        for unit in answer.units:
            best, home = 0.0, -1
            for number, group in enumerate(groups):
                if number in taken or group[0].prose != unit.prose:
                    continue
                score = max(_likeness(unit, other) for other in group)
                if score > best:
                    best, home = score, number
            if home < 0:
                home = len(groups)
                groups.append([])
            else:
                fused.repeats += 1
            groups[home].append(unit)
            unit.group = home
            taken.add(home)
    support = Counter(word for answer in answers for word in set(WORD.findall(answer.text.casefold())))
    order = _order(groups, answers)
    chosen: list[Unit] = []
    size = 0
    for number in order:
        unit = _cleanest(groups[number], support)
        if unit.prose and (not WORD.search(unit.body) or is_meta(unit.body)):
            fused.unfit += 1
            continue
        if size + len(unit.body) > max_chars and chosen:
            fused.unfit += 1
            continue
        size += len(unit.body) + 1
        chosen.append(unit)
        fused.taken[unit.member] += 1
    if not chosen:  # nothing but talk about the talk: better that than nothing
        return Fused(answers[0].text, Counter({answers[0].member: len(answers[0].units)}), unfit=fused.unfit)
    open_with_definition(chosen, subject)
    breaks = any("\n\n" in unit.gap for unit in chosen[:-1])
    for unit in chosen:
        if unit.prose and not breaks:
            unit.gap = " " if "\n" not in unit.gap else unit.gap
        if unit.prose and unit.body[0].islower() and unit.body[0].isascii():
            unit.body = unit.body[0].upper() + unit.body[1:]
    finish_sentences(chosen)
    fused.text = render(chosen)
    return fused


def _split_lower(units: list[Unit]) -> list[Unit]:
    """Units with sentences parted that only a lost capital letter had joined ("… ended. the king …")."""
    result: list[Unit] = []
    for unit in units:
        pieces = _LOST_CAPITAL.split(unit.body) if unit.prose else [unit.body]
        if len(pieces) == 1 or min(len(piece.split()) for piece in pieces) < PART_WORDS:
            pieces = [unit.body]
        for number, piece in enumerate(pieces):
            gap = unit.gap if number + 1 == len(pieces) else " "
            stems = content_words(piece) if len(pieces) > 1 else unit.stems
            result.append(Unit(unit.kind, piece, gap, stems, unit.member, len(result)))
    return result


def _likeness(a: Unit, b: Unit) -> float:
    """0 where two units do not say the same; otherwise how alike they are, in (0, 1]."""
    if a.body == b.body:
        return 1.0
    shared = len(a.stems & b.stems)
    if not shared:
        return 0.0
    union = len(a.stems) + len(b.stems) - shared
    smaller = min(len(a.stems), len(b.stems))
    if shared >= SAME_JACCARD * union or (smaller > SAME_LEAST and shared >= SAME_CONTAINMENT * smaller):
        return shared / union
    # typos change words, not letters: a second look at what is near by its letters
    if shared >= 0.3 * smaller and 0.6 < len(a.body) / len(b.body) < 1.67:
        pairs_a, pairs_b = _letter_triples(a.body), _letter_triples(b.body)
        near = len(pairs_a & pairs_b) / (len(pairs_a | pairs_b) or 1)
        return near if near >= 0.45 else 0.0
    return 0.0


def _letter_triples(text: str) -> set[str]:
    text = text.casefold()
    return {text[i : i + 3] for i in range(len(text) - 2)}


def _order(groups: list[list[Unit]], answers: Sequence[Answer]) -> list[int]:
    """The groups in the order that most variants agree on; ties go with the neighbours at home, then the best rated."""
    count = len(groups)
    ahead = [[0.0] * count for _ in range(count)]
    follows = [[0.0] * count for _ in range(count)]
    for answer in answers:
        line = [unit.group for unit in answer.units]
        # a variant that opens as texts open is less likely to have been shuffled: it decides where votes are equal
        opening = answer.units[0].body if answer.units else ""
        weight = 1.0 + OPENING_WEIGHT * ((_DEFINES.match(opening) is not None) - leans(opening))
        for i, a in enumerate(line):
            for b in line[i + 1 :]:
                ahead[a][b] += weight
            if i + 1 < len(line):
                follows[a][line[i + 1]] += 1

    def margin(a: int, b: int) -> float:
        return ahead[a][b] - ahead[b][a]

    order: list[int] = []
    for answer in answers:
        for unit in answer.units:
            group = unit.group
            if group in order:
                continue
            best_at, best = len(order), float("-inf")
            gain = sum(margin(group, other) for other in order)  # standing before all
            for at in range(len(order) + 1):
                if at:
                    gain -= 2 * margin(group, order[at - 1])
                near = (follows[order[at - 1]][group] if at else 0.0) + (
                    follows[group][order[at]] if at < len(order) else 0.0
                )
                lean = -1.0 if at == 0 and order and leans(groups[group][0].body) else 0.0
                if gain + 0.5 * near + lean >= best:
                    best_at, best = at, gain + 0.5 * near + lean
            order.insert(best_at, group)
    return _settle(order, margin)


def _settle(order: list[int], margin: Callable[[int, int], float]) -> list[int]:
    """Moves single groups while that makes more pairs stand as most variants have them."""
    for _ in range(3):
        moved = False
        for group in list(order):
            at = order.index(group)
            gains, best, best_at = 0.0, 0.0, at
            for to in range(at - 1, -1, -1):
                gains += margin(group, order[to])
                if gains > best:
                    best, best_at = gains, to
            gains = 0.0
            for to in range(at + 1, len(order)):
                gains += margin(order[to], group)
                if gains > best:
                    best, best_at = gains, to
            if best_at != at:
                order.remove(group)
                order.insert(best_at, group)
                moved = True
        if not moved:
            break
    return order


def _cleanest(group: list[Unit], support: Counter[str]) -> Unit:
    """The best copy of a claim (most words that other variants know, whole, upper case first), mended by the others."""
    if len(group) == 1:
        return group[0]

    def flaws(unit: Unit) -> float:
        words = WORD.findall(unit.body)
        lone: float = sum(support[word.casefold()] == 1 for word in words)
        lone += (
            2 * (not is_whole(unit.body)) + (not unit.body[:1].isupper()) + sum(w[:1].islower() for w in words) * 0.001
        )
        lone += sum(a == b for a, b in itertools.pairwise(words))
        # a copy that lost words lost information: each word that another copy has more counts as a flaw
        return lone - 0.6 * len(unit.stems)

    unit = min(group, key=flaws)
    return _mend(unit, [other for other in group if other is not unit], support) if unit.prose else unit


def _mend(unit: Unit, others: list[Unit], support: Counter[str]) -> Unit:
    """The unit with each misspelt word (no other variant knows it) replaced by the word that stands there elsewhere."""
    words = WORD.findall(unit.body)
    spots = [m.span() for m in WORD.finditer(unit.body)]
    forms: dict[int, Counter[str]] = {}
    doubled: set[int] = set()
    for other in others:
        theirs = WORD.findall(other.body)
        matcher = SequenceMatcher(None, [w.casefold() for w in words], [w.casefold() for w in theirs], autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if tag == "delete" and words[i1:i2] in (words[i1 - (i2 - i1) : i1] if i1 else [], words[i2 : 2 * i2 - i1]):
                doubled.update(range(i1, i2))
            if tag == "equal" or (tag == "replace" and i2 - i1 == j2 - j1):
                for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                    if tag == "equal" or _near(words[i], theirs[j]):
                        forms.setdefault(i, Counter())[theirs[j]] += 1
    body = unit.body
    for i in sorted(doubled | set(forms), reverse=True):
        if i in doubled:
            after = spots[i + 1][0] if i + 1 < len(spots) else len(body)
            if body[spots[i][1] : after].isspace():
                body = body[: spots[i][0]] + body[after:]
            continue
        mine, (form, votes) = words[i], forms[i].most_common(1)[0]
        if form == mine or mine[0].isdigit() or form[0].isdigit():
            continue
        if form.casefold() == mine.casefold():
            # casing: the noise puts names in lower case, so an upper-case form within a sentence wins
            better = i > 0 and form[0].isupper() and mine[0].islower() and form.istitle()
            better = better or (i == 0 and mine.islower() and form[0].isupper())
        else:
            better = support[form.casefold()] > max(1, support[mine.casefold()]) or (
                support[mine.casefold()] == 1 and votes > 1 and support[form.casefold()] > 1
            )
        if better:
            body = body[: spots[i][0]] + form + body[spots[i][1] :]
    return (
        unit
        if body == unit.body
        else Unit(unit.kind, body, unit.gap, content_words(body), unit.member, unit.position, unit.group)
    )


def _near(a: str, b: str) -> bool:
    """Whether two words are one but for a slip of the keyboard."""
    a, b = a.casefold(), b.casefold()
    if a == b:
        return True
    if abs(len(a) - len(b)) > 2 or min(len(a), len(b)) < 3:
        return False
    return sorted(a) == sorted(b) or SequenceMatcher(None, a, b, autojunk=False).ratio() >= 0.75
