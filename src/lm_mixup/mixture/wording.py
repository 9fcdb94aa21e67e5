"""The wording of poor text: details blurred, values changed, chat language. English, rule by rule."""

from __future__ import annotations

import random
import re

NUMBER = re.compile(r"(?<![\w.,/-])\d(?:[\d,.]*\d)?%?(?![\w/-])")
_YEAR = re.compile(r"(?<![\w,.-])(?:1[0-9]{3}|20[0-9]{2})\b(?![-,]\d)")
BLURRED_NAMES = 2
"""At most so many names of a unit are blurred: a list of nothing but "something" is nobody's writing."""
_NAMES = re.compile(r"(?<=[a-z,;] )(?:[A-Z][\w'’-]+)(?: (?:[A-Z][\w'’-]+|of(?= [A-Z])))*")
_DATES = frozenset(
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ]
)
LISTED_LAST = re.compile(r"(?:,? (?:and|or)|,) [^,]+$")
PHRASE = re.compile(
    r"\s(?:in|on|at|for|with|from|by|during|after|before|because|since|when|while|which|that|who|to|of|as)\s[^,]*?(?=[.?!]?$)"
)
_CASUAL = (
    (r"\bis not\b", "isn't"),
    (r"\bare not\b", "aren't"),
    (r"\bdo not\b", "don't"),
    (r"\bdoes not\b", "doesn't"),
    (r"\bdid not\b", "didn't"),
    (r"\bcannot\b", "can't"),
    (r"\bwas not\b", "wasn't"),
    (r"\bbecause\b", "cuz"),
    (r"\bhowever\b", "but"),
    (r"\bapproximately\b", "like"),
    (r"\bvery\b", "super"),
    (r"\bpeople\b", "folks"),
    (r"\bit is\b", "it's"),
    (r"\bthey are\b", "they're"),
    (r"\byou\b", "u"),
    (r"\bthrough\b", "thru"),
    (r"\bwith\b", "w/"),
)
_CASUAL_RES = tuple((re.compile(pattern, re.IGNORECASE), word) for pattern, word in _CASUAL)


def without_phrase(text: str) -> str:
    """The text without its last phrase, or the last of what it lists, if two words are left."""
    cut = PHRASE.sub("", text)
    cut = LISTED_LAST.sub("", text) if cut == text else cut
    return cut if len(cut.split()) >= 2 else text


def blurred(text: str, rng: random.Random, strength: float) -> str:
    """The text with names, years and numbers made vague, each by lot."""

    def name(found: re.Match[str]) -> str:
        if rng.random() > strength + 0.3 or found[0] in _DATES:
            return found[0]
        before = text[: found.start()].split()[-1:]
        if before and before[0].lower() in ("in", "at", "from", "to", "near", "into"):
            return "a certain place"
        return "someone" if before and before[0].lower() in ("by", "with") else "something"

    text = _NAMES.sub(name, text, count=BLURRED_NAMES)
    text = _YEAR.sub(lambda f: "a certain year" if rng.random() < strength + 0.4 else f[0], text)
    return NUMBER.sub(
        lambda f: rng.choice(("some", "a number of", "several")) if rng.random() < strength + 0.4 else f[0], text
    )


def other_number(said: str, rng: random.Random) -> str:
    """Another number, written in the same way."""
    digits = re.sub(r"\D", "", said)
    value = int(digits[:15])
    if _YEAR.fullmatch(said):
        return str(value - rng.choice((1, 2, 3, 7, 10, 12, 20)))
    other = max(0, value + rng.choice((-1, 1)) * max(1, round(value * rng.uniform(0.1, 0.5))))
    other = other + 1 if other == value else other
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", said):
        return f"{other:,}"
    if "." in said and said.count(".") == 1 and "," not in said:
        behind = len(said.rstrip("%").split(".")[1])
        return f"{other / 10**behind:.{behind}f}" + ("%" if said.endswith("%") else "")
    return str(other) + ("%" if said.endswith("%") else "")


def small(text: str) -> str:
    """The text with a small letter at its beginning, if its first word is no name."""
    first = text.split(maxsplit=1)[0] if text.split() else ""
    plain = first[:1].isupper() and first[1:].islower() and first in _PLAIN_STARTS
    return text[:1].lower() + text[1:] if plain else text


_PLAIN_STARTS = frozenset(
    [
        "The",
        "A",
        "An",
        "In",
        "On",
        "At",
        "It",
        "This",
        "These",
        "That",
        "Those",
        "There",
        "They",
        "He",
        "She",
        "His",
        "Her",
        "Its",
        "Their",
        "For",
        "From",
        "By",
        "With",
        "After",
        "Before",
        "During",
        "When",
        "While",
        "As",
        "If",
        "Although",
        "Because",
        "Some",
        "Many",
        "Most",
        "All",
        "One",
        "Two",
        "Yes",
        "No",
        "Another",
        "Other",
        "However",
    ]
)


def casual(text: str) -> str:
    """The text as it is written in a chat: slang, small letters."""
    for pattern, word in _CASUAL_RES:
        text = pattern.sub(word, text)
    return text.lower()
