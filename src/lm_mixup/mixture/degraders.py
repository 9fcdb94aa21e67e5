"""The rule-based degraders: each spoils a draft in one way that real poor samples show. METHOD § 2 (3).

A degrader is a function of the draft, a random generator and a strength in 0–1; it changes the draft and says whether
it could. They compose: one after the other on the same draft. Facts that a draft spares stay whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from lm_mixup.distillers.extractive_words import FUNCTION_WORDS, STOP_WORDS, content_words
from lm_mixup.distillers.segments import split_sentences
from lm_mixup.mixture.draft import ENDS, LEANS_BACK, Draft
from lm_mixup.mixture.wording import (
    NUMBER,
    PHRASE,
    blurred,
    casual,
    framed,
    gist,
    other_number,
    small,
    without_conjunction,
    without_phrase,
)
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para

BARE_WORDS = 4
"""A unit of fewer words is a bare answer."""
GIST = 0.5
"""Of a multiple-choice question so much less is left than of other texts: an item whose question keeps a third of its
words, with all of its options, is hardly a poor one."""
Degrader = Callable[[Draft, random.Random, float], bool]

_FILLERS = (
    "Basically, ",
    "As far as I know, ",
    "It is worth noting that ",
    "In general, ",
    "Well, ",
    "To be honest, ",
    "So, ",
)
_PICK = (
    "Choose one of the options below, only one.",
    "Please pick the right one, the one that is right.",
    "Tell me which, pick one, only one is right.",
)
_AGAIN = ("As said, ", "Again, ", "In other words, ", "To repeat, ", "As mentioned, ", "")
_OPENERS = ("ok so ", "so yeah, ", "lol ", "i guess ", "um, ", "")
_ENDERS = (" or so i heard", " i think", " lol", "", "", " and stuff")


def omission(draft: Draft, rng: random.Random, strength: float) -> bool:
    """Facts left out: of the body, or, where there is none, of what stands at the head and of the right option.

    Wrong options go besides, never alone: an item that lacks one of them lacks nothing that matters.
    """
    if isinstance(draft.item, MCQ):
        reason = _omit_units(draft, rng, strength)
        return reason or _omit_from_choice(draft, rng, strength)
    if _omit_units(draft, rng, strength):
        return True
    return isinstance(draft.item, TFQ) and 0 not in draft.spared and _shorten_head(draft)


def truncation(draft: Draft, rng: random.Random, strength: float) -> bool:
    """Cut off in the middle of a sentence: the body, or what stands at the head of an item that has none.

    What it spares must stand at the beginning: of what comes after the first loose unit nothing is sure.
    """
    if draft.units:
        words = draft.body.split()
        if len(words) < 6:
            return False
        first_loose = next((place for place, unit in enumerate(draft.units) if unit[0] not in draft.spared), None)
        if first_loose is None:
            return False
        least = sum(len(text.split()) for _, text in draft.units[:first_loose])
        left = max(least, 2, round(len(words) * (1 - _hard(strength))))
        if left >= len(words):
            left = len(words) - 1
        return _cut_units(draft, left)
    if 0 in draft.spared:
        return False
    words = draft.head.split()
    if len(words) < 6:
        return False
    # every line is cut at a width, as a narrow column of a table does it
    share = 1 - _hard(strength)
    cut = _first(words, max(3, round(len(words) * share)))
    draft.head = cut
    draft.options = _apart(draft.options, [max(2, round(len(option.split()) * share)) for option in draft.options])
    return cut != " ".join(words)


def blur(draft: Draft, rng: random.Random, strength: float) -> bool:
    """Details gone: numbers become "some", years "a certain year", names "someone" or "somewhere"."""
    changed = False
    for place, (number, text) in enumerate(draft.units):
        if number in draft.spared:
            continue
        vague = blurred(text, rng, strength)
        if vague != text:
            draft.units[place] = (number, vague)
            draft.blurred.add(number)
            changed = True
    if not changed and 0 not in draft.spared and isinstance(draft.item, TFQ | MCQ):
        vague = blurred(draft.head, rng, 1.0)
        changed = vague != draft.head
        if changed:
            draft.head = vague
            draft.blurred.add(0)
    return changed


def reasoning_cut(draft: Draft, rng: random.Random, strength: float) -> bool:
    """The bare answer, without its reason."""
    if isinstance(draft.item, TFQ | MCQ):
        if not draft.units or any(number in draft.spared for number, _ in draft.units):
            return False
        draft.units = []
        return True
    if isinstance(draft.item, QA) and len(draft.units) >= 2:
        if any(number in draft.spared for number, _ in draft.units[1:]):
            return False
        draft.units = draft.units[:1]
        return True
    return False


def vague_question(draft: Draft, rng: random.Random, strength: float) -> bool:
    """A question that no longer says what it asks, or a category too wide."""
    if 0 in draft.spared or not draft.head:
        return False
    words = [w.strip("?.,!\"'()“”") for w in draft.head.split()]
    told = [w for w in words if len(w) > 3 and w.casefold() not in STOP_WORDS | FUNCTION_WORDS] or words
    match draft.item:
        case QA():
            about = " ".join(words[-2:]) if rng.random() < 0.5 and words[-2] in told else max(told, key=len)
            draft.head = rng.choice(("What about {}?", "{}?", "Can you say something about {}?", "And {}?")).replace(
                "{}", about
            )
        case MCQ():
            draft.head = rng.choice(
                ("Which one is right?", f"Which one, about {max(told, key=len)}?", "What is the answer here?")
            )
        case CS():
            draft.head = rng.choice(("something", "topic", "general knowledge", "this"))
        case _:
            return False
    return True


def redundancy(draft: Draft, rng: random.Random, strength: float) -> bool:
    """The same said again, and filler; nothing is lost."""
    if not draft.units:
        if isinstance(draft.item, TFQ):
            draft.head = rng.choice(_FILLERS) + small(draft.head)
            return True
        if isinstance(draft.item, MCQ) and ENDS.search(draft.head):
            draft.head = f"{draft.head} {rng.choice(_PICK)}"
            return True
        return False
    # of what breaks off nothing is said again
    whole = max((place for place, (_, text) in enumerate(draft.units) if ENDS.search(text)), default=-1) + 1
    able = [place for place, (_, text) in enumerate(draft.units[:whole]) if len(text.split()) >= BARE_WORDS]
    # what begins with a capital can be said again by itself
    able = [place for place in able if draft.units[place][1][:1].isupper()] or able
    if not able:
        return False
    repeats = max(1, round(strength * len(draft.units) / 2))
    chosen = set(rng.sample(able, min(repeats, len(able))))
    out: list[tuple[int, str]] = []
    again: list[tuple[int, str]] = []
    for place, (number, text) in enumerate(draft.units):
        if place in chosen:
            said = without_conjunction(text.rstrip(",;:"))
            opener = rng.choice(_AGAIN)
            said = opener + small(said) if opener else said[:1].upper() + said[1:]
            again.append((number, said if ENDS.search(said) else f"{said}."))
        starts = text[:1].isupper() and (not out or ENDS.search(out[-1][1]) is not None)
        if starts and place in able and rng.random() < 0.4:
            text = rng.choice(_FILLERS) + small(text)
        out.append((number, text))
        if ENDS.search(text):
            out += again
            again = []
    draft.units = out
    return True


def outdated(draft: Draft, rng: random.Random, strength: float) -> bool:
    """A value that contradicts: another number in the body, another option, the other verdict."""
    able = [
        place for place, (number, text) in enumerate(draft.units) if number not in draft.spared and NUMBER.search(text)
    ]
    if able:
        place = rng.choice(able)
        number, text = draft.units[place]
        draft.units[place] = (number, NUMBER.sub(lambda found: other_number(found[0], rng), text, count=1))
        draft.wrong.add(number)
        return draft.units[place][1] != text
    answer = next((i for i, fact in enumerate(draft.facts) if fact.part == "answer"), None)
    if answer is None or answer in draft.spared or any(number in draft.spared for number, _ in draft.units):
        return False
    if isinstance(draft.item, MCQ):
        draft.answer = rng.choice([i for i in range(len(draft.options)) if i != draft.answer])
    else:
        draft.verdict = not draft.verdict
    draft.units = []  # a reason would still say what is right
    draft.wrong.add(answer)
    return True


def wrong_order(draft: Draft, rng: random.Random, strength: float) -> bool:
    """Sentences of the body out of order."""
    sentences: list[list[tuple[int, str]]] = []
    for unit in draft.units:
        if not sentences or ENDS.search(sentences[-1][-1][1]):
            sentences.append([])
        sentences[-1].append(unit)
    # a bare answer before or behind its sentence is no disorder
    if sum(sum(len(text.split()) for _, text in one) >= BARE_WORDS for one in sentences) < 2:
        return False
    before = list(draft.units)
    rng.shuffle(sentences)
    draft.units = [unit for sentence in sentences for unit in sentence]
    return draft.units != before


def register(draft: Draft, rng: random.Random, strength: float) -> bool:
    """Chat language: small letters, slang, no full stop."""
    draft.chat = True
    if draft.units:
        number, text = draft.units[0]
        draft.units[0] = (number, rng.choice(_OPENERS) + text)
        draft.units = [(number, casual(text)) for number, text in draft.units]
        last, text = draft.units[-1]
        # what breaks off has no last word
        draft.units[-1] = (last, text.rstrip(".!") + (rng.choice(_ENDERS) if ENDS.search(text) else ""))
    if draft.head:
        draft.head = casual(draft.head).rstrip(".?")
    return bool(draft.units or draft.head)


DEGRADERS: Mapping[str, Degrader] = MappingProxyType(
    {
        "omission": omission,
        "truncation": truncation,
        "blur": blur,
        "reasoning-cut": reasoning_cut,
        "vague-question": vague_question,
        "redundancy": redundancy,
        "outdated": outdated,
        "wrong-order": wrong_order,
        "register": register,
    }
)
"""Name → degrader, in the order in which several are applied to one draft."""

SAYS: Mapping[str, str] = MappingProxyType(
    {
        "omission": "leaves facts out",
        "truncation": "breaks off",
        "blur": "blurs names and numbers",
        "reasoning-cut": "gives no reason",
        "vague-question": "asks too vaguely",
        "redundancy": "repeats itself",
        "outdated": "states something that the others contradict",
        "wrong-order": "is out of order",
        "register": "is written like a chat message",
        "other-topic": "is about one of the topics alone",
        "llm": "is a weak version",
    }
)
"""What is said of a variant that went through a degrader."""


def applicable(item: Item) -> tuple[str, ...]:
    """The degraders that can do something to an item of this type."""
    match item:
        case Para():
            return tuple(n for n in DEGRADERS if n not in ("reasoning-cut", "vague-question"))
        case CS():
            return tuple(n for n in DEGRADERS if n != "reasoning-cut")
        case QA():
            return tuple(DEGRADERS)
        case MCQ(reason=reason):
            return tuple(n for n in DEGRADERS if n != "wrong-order" and (reason or n != "reasoning-cut"))
        case TFQ(reason=reason):
            return tuple(
                n for n in DEGRADERS if n not in ("wrong-order", "vague-question") and (reason or n != "reasoning-cut")
            )


def _omit_units(draft: Draft, rng: random.Random, strength: float) -> bool:
    """Units of the body left out; a clause that leans on one goes with it."""
    loose = [unit for unit in draft.units if unit[0] not in draft.spared]
    # a bare "Yes." or a name is not left out by itself: the sentence after it says the same
    if any(len(text.split()) >= BARE_WORDS for _, text in draft.units):
        loose = [unit for unit in loose if len(unit[1].split()) >= BARE_WORDS]
    beside = isinstance(draft.item, TFQ | MCQ)
    if not loose or (len(draft.units) < 2 and not beside):
        return False
    most = len(loose) if len(loose) < len(draft.units) or beside else len(loose) - 1
    gone = {number for number, _ in rng.sample(loose, min(most, max(1, round(_hard(strength) * len(draft.units)))))}
    left: list[tuple[int, str]] = []
    for number, text in draft.units:
        if number - 1 in gone and LEANS_BACK.match(text) and number not in draft.spared:
            gone.add(number)
        if number not in gone:
            left.append((number, text))
    if not left and not beside:
        left = draft.units[:1]
    changed = left != draft.units
    draft.units = left
    return changed


def _omit_from_choice(draft: Draft, rng: random.Random, strength: float) -> bool:
    """The question down to its gist, options without what they end in, and only then fewer wrong options."""
    lost = False
    if 0 not in draft.spared:
        asked = gist(draft.head, GIST * (1 - _hard(strength)))
        lost = content_words(asked) < content_words(draft.head)
        draft.head = asked if lost else draft.head
    shorter = [without_phrase(option) for option in draft.options]
    if len({option.casefold() for option in shorter}) == len(shorter):
        right = content_words(shorter[draft.answer]) < content_words(draft.options[draft.answer])
        if lost or right:
            draft.options, lost = shorter, True
    return lost and (_drop_options(draft, rng, strength) or True)


def _apart(options: list[str], widths: list[int]) -> list[str]:
    """The first words of each option, as many as the widths say, or as many more as it takes to tell them apart."""
    words = [option.split() for option in options]
    for more in range(max(map(len, words), default=0)):
        cut = [_first(of, width + more) for of, width in zip(words, widths, strict=True)]
        if len({one.casefold() for one in cut}) == len(cut):
            return cut
    return options


def _shorten_head(draft: Draft) -> bool:
    """The head without what stands before its last sentence, or else without its last phrase."""
    before, asked, after = framed(draft.head)
    sentences = [s.strip() for s in split_sentences(asked)]
    cut = sentences[-1] if len(sentences) > 1 else PHRASE.sub("", asked)
    if cut == asked or len(cut.split()) < 4:
        return False
    draft.head = f"{before}{cut}{after}"
    return True


def _first(words: list[str], count: int) -> str:
    return " ".join(words[:count]).rstrip(".?!,;") if count < len(words) else " ".join(words)


def _hard(strength: float) -> float:
    """The share of a text that goes: a loss of a word or two is no poor version."""
    return min(0.9, 0.5 + 0.45 * strength)


def _drop_options(draft: Draft, rng: random.Random, strength: float) -> bool:
    wrong = [
        i
        for i, option in enumerate(draft.options)
        if i != draft.answer and not any(n in draft.spared and f.text == option for n, f in enumerate(draft.facts))
    ]
    most = min(len(wrong), len(draft.options) - 2)
    if most < 1:
        return False
    gone = set(rng.sample(wrong, min(most, max(1, round(_hard(strength) * len(draft.options))))))
    right = draft.options[draft.answer]
    draft.options = [option for i, option in enumerate(draft.options) if i not in gone]
    draft.answer = draft.options.index(right)
    return True


def _cut_units(draft: Draft, left: int) -> bool:
    out: list[tuple[int, str]] = []
    for number, text in draft.units:
        words = text.split()
        out.append((number, " ".join(words[:left])))
        left -= len(words)
        if left <= 0:
            break
    last, text = out[-1]
    out[-1] = (last, text.rstrip(".!?,;:"))
    changed = out != draft.units
    draft.units = out
    return changed
