"""The wording of poor text: details blurred, values changed, chat language. English, rule by rule."""

from __future__ import annotations

import random
import re

from lm_mixup.distillers.extractive_words import FUNCTION_WORDS, STOP_WORDS, content_words, word_set
from lm_mixup.distillers.segments import split_sentences

NUMBER = re.compile(r"(?<![\w.,:/-])\d(?:[\d,.]*\d)?%?(?![\w/-]|:\d)")
_YEAR = re.compile(r"(?<![\w,.-])(?:\b(?P<a>[Aa]n?) )?(?P<year>1[0-9]{3}|20[0-9]{2})\b(?![-,]\d)")
BLURRED_NAMES = 2
"""At most so many names of a unit are blurred: a list of nothing but "something" is nobody's writing."""
_NAMES = re.compile(
    r"(?:\b(?P<the>[Tt]he|[Aa]n?) |(?<=[a-z,;] ))(?P<name>(?:(?:Mr|Mrs|Ms|Dr|St|Mt)\. )?[A-Z](?:[\w-]|['’](?!s\b))+"
    r"(?: (?:[A-Z](?:[\w-]|['’](?!s\b))+|of(?= [A-Z])))*)(?P<own>['’]s\b)?"
)
_PLACED = frozenset(("in", "at", "from", "near", "into"))
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


def without_conjunction(clause: str) -> str:
    """A clause without the word that ties it to one before it, if it is a clause of its own."""
    return re.sub(r"^(?:and|but|or|so|because|although|though|while|whereas),? (?!\w+ing\b)", "", clause)


_FRAMED = re.compile(
    r'^(Which option completes the sentence "|The answer to the question ")(.+?)((?: …)?"(?:\?| is yes\.))$'
)


def framed(head: str) -> tuple[str, str, str]:
    """What stands before, in and after the quotes of a stem, or statement, that the builder framed; else it alone."""
    found = _FRAMED.match(head)
    return (found[1], found[2], found[3]) if found else ("", head, "")


_ASKED_LAST = re.compile(r", ((?:in |to |for |at )?(?:which|what|how|who|why|where)\b.+)$")
"""The question after a clause that leads up to it ("When more farms are built, which group is harmed?")."""


def gist(head: str, share: float) -> str:
    """The last sentence of a question with about ``share`` (0–1) of its words, cut before a phrase where one begins.

    Two words are left at least, one of which says something, and none stands at the end that says nothing. Of a
    sentence that options complete, the end stays: they go on with it.
    """
    before, asked, after = framed(head)
    asked = split_sentences(asked)[-1].strip()
    if clause := _ASKED_LAST.search(asked):
        asked = clause[1][0].upper() + clause[1][1:]
    words = asked.split()
    wanted = max(2, round(share * len(words)))
    if "…" in after:
        return f"{before}{'' if wanted >= len(words) else '… '}{' '.join(words[-wanted:])}{after}"
    ends = [n for n in range(2, len(words)) if _says(words[n - 1]) and content_words(" ".join(words[:n]))]
    if not ends:
        return f"{before}{' '.join(words)}{after}"
    # an end before a phrase is worth two words more or less
    end = min(ends, key=lambda n: (abs(n - wanted) - 2 * (words[n].casefold() in _PHRASE_STARTS), n))
    return f"{before}{' '.join(words[:end]).rstrip(',;:.?')}?{after}"


def _says(word: str) -> bool:
    return word.casefold().strip("?.,;:") not in FUNCTION_WORDS | STOP_WORDS


_PHRASE_STARTS = word_set(
    "in on at for from with by during after before because since when while which that who to of as if"
)


def blurred(text: str, rng: random.Random, strength: float) -> str:
    """The text with names, years and numbers made vague, each by lot."""

    def name(found: re.Match[str]) -> str:
        if rng.random() > strength + 0.3 or found["name"] in _DATES:
            return found[0]
        word_before = (text[: found.start()].split() or [""])[-1]
        # of a name that begins the sentence the rest is not blurred alone ("Andrew someone")
        if word_before[:1].isupper() and not found["the"]:
            return found[0]
        before = word_before.casefold()
        following = re.match(r" ([a-z][\w-]+)", text[found.end() :])
        # "the Alabama legislature", "in British schools": the name says what kind of thing it is
        says = following is not None and _says(following[1]) and not following[1].endswith("ed")
        kind = says and (before in _PLACED | _PHRASE_STARTS or (found["the"] and following and following[1][-1] != "s"))
        if found["own"]:
            vague = "someone's"
        elif kind:
            vague = "some"
        elif before in _PLACED and not found["the"]:
            vague = "a certain place"
        else:
            vague = "someone" if before in ("by", "with") else "something"
        return vague.capitalize() if (found["the"] or "").istitle() else vague

    def year(found: re.Match[str]) -> str:
        if rng.random() >= strength + 0.4:
            return found[0]
        if found["a"]:
            return "some"
        dated = text[: found.start()].rstrip(", ").rpartition(" ")[2] in _DATES
        return "of a certain year" if dated else "a certain year"

    def number(found: re.Match[str]) -> str:
        after = text[found.end() :].strip().partition(" ")[0].rstrip(".,;")
        of_date = after in _DATES or text[: found.start()].rstrip().rpartition(" ")[2] in _DATES
        if rng.random() >= strength + 0.4 or of_date or _YEAR.fullmatch(found[0]):
            return found[0]
        if found[0].endswith("%") and after == "of":
            return "part"
        return rng.choice(("some", "a number of", "several"))

    text = _NAMES.sub(name, text, count=BLURRED_NAMES)
    text = _YEAR.sub(year, text)
    return NUMBER.sub(number, text)


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
    plain = first.rstrip(",") in _PLAIN_STARTS or re.fullmatch(r"[A-Z][a-z]{3,}ly,?", first)
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
        "Besides",
        "Similarly",
        "Today",
        "Between",
        "Not",
        "Several",
        "Such",
        "Both",
        "Each",
        "Since",
        "Under",
        "Through",
        "Other",
        "Following",
        "Which",
        "What",
        "We",
        "You",
    ]
)


def casual(text: str) -> str:
    """The text as it is written in a chat: slang, small letters."""
    for pattern, word in _CASUAL_RES:
        text = pattern.sub(word, text)
    return text.lower()
