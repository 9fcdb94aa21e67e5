"""Surface noise: what typing, copying and scanning do to a text. METHOD § 2 (4).

Noise falls on words of letters alone: numbers, and the labels that make an item's form, stay as they are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from types import MappingProxyType

from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para

RATES: Mapping[str, float] = MappingProxyType(
    {"typo": 0.02, "case": 0.015, "doubled": 0.01, "markup": 0.008, "ocr": 0.01}
)
"""Kind → the share of words that it hits by default, before a variant's own scale."""

_NEIGHBORS: Mapping[str, str] = MappingProxyType(
    {
        "q": "wa",
        "w": "qes",
        "e": "wrd",
        "r": "etf",
        "t": "ryg",
        "y": "tuh",
        "u": "yij",
        "i": "uok",
        "o": "ipl",
        "p": "ol",
        "a": "qsz",
        "s": "awdx",
        "d": "sefc",
        "f": "drgv",
        "g": "fthb",
        "h": "gyjn",
        "j": "hukm",
        "k": "jil",
        "l": "kop",
        "z": "asx",
        "x": "zsdc",
        "c": "xdfv",
        "v": "cfgb",
        "b": "vghn",
        "n": "bhjm",
        "m": "njk",
    }
)
_OCR = (
    ("rn", "m"),
    ("m", "rn"),
    ("cl", "d"),
    ("h", "b"),
    ("e", "c"),
    ("li", "h"),
    ("w", "vv"),
    ("l", "1"),
    ("o", "0"),
    ("fi", "ﬁ"),
)
_TAGS = ("<br>", "&nbsp;", "<p>", "[edit]", "**", "</div>", "&amp;", "[1]", "<i>")
_WORD = re.compile(r"[^\W\d_]{3,}")


class Noise:
    """Puts noise on items. ``rates`` are shares of words by kind; every call scales them by the given factor."""

    def __init__(self, rates: Mapping[str, float] = RATES) -> None:
        unknown = sorted(set(rates) - set(RATES))
        if unknown or not all(0 <= rate <= 1 for rate in rates.values()):
            raise ValueError(f"noise rates: expected shares in 0–1 for some of {sorted(RATES)}, got {dict(rates)}")
        self.rates = dict(rates)

    def text(self, text: str, rng: random.Random, scale: float = 1.0) -> tuple[str, frozenset[str]]:
        """The text with noise, and the kinds that fell on it. Line breaks stay where they are."""
        hit: set[str] = set()

        def spoil(found: re.Match[str]) -> str:
            word, draw, at = found[0], rng.random(), 0.0
            for kind, rate in self.rates.items():
                at += rate * scale
                if draw < at:
                    spoiled = _SPOIL[kind](word, rng)
                    if spoiled != word:
                        hit.add(kind)
                    return spoiled
            return word

        return _WORD.sub(spoil, text), frozenset(hit)

    def item(self, item: Item, rng: random.Random, scale: float = 1.0) -> tuple[Item, frozenset[str]]:
        """The item with noise on each of its texts, and the kinds that fell on it; its form stays."""
        hit: set[str] = set()

        def noisy(text: str) -> str:
            spoiled, kinds = self.text(text, rng, scale)
            hit.update(kinds)
            return spoiled

        match item:
            case QA(question, answer):
                return QA(noisy(question), noisy(answer)), frozenset(hit)
            case CS(category, statement):
                return CS(noisy(category), noisy(statement)), frozenset(hit)
            case Para(text, request):
                return Para(noisy(text), request), frozenset(hit)
            case TFQ(statement, verdict, reason):
                return TFQ(noisy(statement), verdict, noisy(reason)), frozenset(hit)
            case MCQ(question, options, answer, reason):
                return MCQ(noisy(question), tuple(map(noisy, options)), answer, noisy(reason)), frozenset(hit)


def _typo(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    way = rng.randrange(4)
    near = _NEIGHBORS.get(word[at].lower())
    if way == 0 and at + 1 < len(word):
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if way == 1:
        return word[:at] + word[at + 1 :]
    if way == 2:
        return word[: at + 1] + word[at:]
    return word[:at] + rng.choice(near) + word[at + 1 :] if near else word


def _case(word: str, rng: random.Random) -> str:
    return rng.choice((word.upper(), word.lower(), word.swapcase()))


def _doubled(word: str, rng: random.Random) -> str:
    return f"{word} {word}"


def _markup(word: str, rng: random.Random) -> str:
    tag = rng.choice(_TAGS)
    return f"{word} {tag}" if rng.random() < 0.5 else f"{tag}{word}"


def _ocr(word: str, rng: random.Random) -> str:
    able = [(a, b) for a, b in _OCR if a in word]
    if not able:
        return word
    a, b = rng.choice(able)
    return word.replace(a, b, 1)


_SPOIL = MappingProxyType({"typo": _typo, "case": _case, "doubled": _doubled, "markup": _markup, "ocr": _ocr})
