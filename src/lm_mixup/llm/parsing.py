"""Reading what models answer: the one parser of ``<think>…</think><answer>…</answer>`` and the one of judges' JSON.

Both run in linear time on any text, never raise, and give None rather than a guess: what cannot be read is asked
again, and then is a failure.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

# Bounded, possessive white space inside a tag keeps the search linear (a run could be split in many ways).
# The look ahead leaves a bare "<" at once.
_TAG = re.compile(r"<(?=[\s/ta])\s{0,4}+(/?)\s{0,4}+(think|answer)\s{0,4}+>", re.IGNORECASE)

_MAX_TAGS = 1_000
"""A model that writes more tags than this is in a loop."""

JUDGE_KEYS = ("Rarity", "Complexity", "Informativeness", "Overall rating")
SCALE_MIN, SCALE_MAX = 1, 10
"""A judge's scale: whole numbers in this closed range. DS2; METHOD § 1.1."""

JUDGE_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "title": "rating",
        "type": "object",
        "properties": {key: {"type": "integer", "minimum": SCALE_MIN, "maximum": SCALE_MAX} for key in JUDGE_KEYS},
        "required": list(JUDGE_KEYS),
        "additionalProperties": False,
    }
)
"""The JSON schema of a judgement, for servers that enforce one."""

MAX_JUDGEMENT_CHARS = 50_000
"""A longer answer holds no rating worth looking for."""
_MAX_OBJECTS = 32
_MAX_REPAIR_CHARS = 4_000
_MAX_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class ThinkAnswer:
    """The two parts of an answer, stripped. ``exact``: the text had the asked form and nothing else (METHOD § 3)."""

    think: str
    answer: str
    exact: bool


def parse_think_answer(text: str) -> ThinkAnswer | None:
    """The parts of ``<think>…</think><answer>…</answer>``, or None where no answer can be told for certain.

    Case and white space around tags do not matter. Rules for what models do wrong:

    - text before, between or after the two parts is ignored, and the answer is not ``exact``;
    - a missing think part is "" (some servers cut it out), a think part that is never closed ends where the answer
      begins, and tags inside a think part are part of the thought, up to the first ``</think>``;
    - an answer that is never closed was cut off: None. So is an empty one;
    - an answer that holds another tag: None, except that a tag said twice in a row counts once;
    - several answers: None, unless they are all the same;
    - more than a thousand tags: None.
    """
    tags = [(m.start(), m.end(), m[1] + m[2].lower()) for m in islice(_TAG.finditer(text), _MAX_TAGS + 1)]
    if len(tags) > _MAX_TAGS:
        return None
    kinds = [kind for _, _, kind in tags]
    think, exact, rest = "", True, 0
    position = 0
    close, opened = (kinds.index(kind) if kind in kinds else None for kind in ("/think", "answer"))
    if kinds and kinds[0] == "think":
        exact = not text[: tags[0][0]].strip()
        if close is None:
            if opened is None:
                return None
            think, exact, rest, position = text[tags[0][1] : tags[opened][0]], False, opened, tags[opened][0]
        else:
            think, rest, position = text[tags[0][1] : tags[close][0]], close + 1, tags[close][1]
    else:
        exact = False
        # a chat template may have written the opening tag already: then the text begins inside the thought
        if close is not None and (opened is None or close < opened):
            think, rest, position = text[: tags[close][0]], close + 1, tags[close][1]
    found = _answers(text, tags[rest:], position)
    if found is None:
        return None
    answer, alone = found
    return ThinkAnswer(think.strip(), answer, exact and alone)


def _answers(text: str, tags: list[tuple[int, int, str]], position: int) -> tuple[str, bool] | None:
    """The one answer among the tags, and whether nothing else stands from ``position`` on."""
    answers: list[str] = []
    alone = True
    i = 0
    while i < len(tags):
        start, end, kind = tags[i]
        i += 1
        if kind != "answer":
            alone = False  # a stray tag between or after answers
            continue
        alone = alone and not text[position:start].strip()
        while i < len(tags) and tags[i][2] == "answer" and not text[end : tags[i][0]].strip():
            end, alone, i = tags[i][1], False, i + 1
        if i == len(tags) or tags[i][2] != "/answer":
            return None
        answers.append(text[end : tags[i][0]].strip())
        position = tags[i][1]
        i += 1
    if not answers or not answers[0] or len(set(answers)) > 1:
        return None
    return answers[0], alone and len(answers) == 1 and not text[position:].strip()


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's four ratings, whole numbers 1–10 (DS2; METHOD § 1.1)."""

    rarity: int
    complexity: int
    informativeness: int
    overall: int


def parse_judgement(text: str, *, cut_off: bool = False) -> Judgement | None:
    """The four ratings that an answer states, or None where it does not state them for certain.

    Tried in turn: the whole text as JSON; the objects within it (in code fences, in prose); then each of them after
    ``json-repair``. Objects without all four ratings are passed over; several with different ratings give None. A
    thought (up to ``</think>``) is left out. ``cut_off``: the answer ended at the length limit, so that its last
    number may be a part of one; then only what is complete as it stands counts.
    """
    if len(text) > MAX_JUDGEMENT_CHARS:
        return None
    said = _after_thought(text)
    if said is None:
        return None
    whole = _loads(said.strip())
    text = whole if isinstance(whole, str) else said  # an object may stand inside a JSON string
    candidates = [whole] if isinstance(whole, dict) else list(_objects(text))
    readings = {reading for obj in candidates if (reading := _reading(obj)) is not None}
    if not readings and not cut_off:
        readings = {reading for obj in _repaired(text) if (reading := _reading(obj)) is not None}
    return readings.pop() if len(readings) == 1 else None


def _after_thought(text: str) -> str | None:
    """The text after a reasoning model's thought; None if the thought never ends."""
    if "<" not in text:
        return text
    tags = [(m.end(), bool(m[1])) for m in _TAG.finditer(text) if m[2].lower() == "think"]
    if not tags:
        return text
    end, closing = tags[-1]
    return text[end:] if closing else None


def _no_conflict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name said twice with different values becomes None, which is no rating."""
    obj: dict[str, Any] = {}
    for name, value in pairs:
        obj[name] = value if name not in obj or obj[name] == value else None
    return obj


_DECODER = json.JSONDecoder(object_pairs_hook=_no_conflict)


def _loads(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """The outermost JSON objects within the text, in order; at most a fixed number of places is tried."""
    position = 0
    for _ in range(_MAX_OBJECTS):
        position = text.find("{", position)
        if position < 0:
            return
        try:
            obj, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        yield obj


def _repaired(text: str) -> Iterator[Mapping[str, Any]]:
    """Objects that ``json-repair`` makes of the pieces that look like one (no piece holds a nested object)."""
    import json_repair

    pieces = re.findall(r"\{[^{}]*\}?", text)
    if not pieces:
        return
    outer = text[text.find("{") : text.rfind("}") + 1]
    for piece in [*pieces[:_MAX_OBJECTS], outer]:
        # what is JSON already has been read as it is, and must not be read again with more goodwill
        if 0 < len(piece) <= _MAX_REPAIR_CHARS and _loads(piece) is None:
            try:
                obj = json_repair.loads(piece, skip_json_loads=True)
            except (ValueError, RecursionError):
                continue
            if isinstance(obj, dict):
                yield obj


_NAMES = MappingProxyType(
    {
        "rarity": "rarity",
        "complexity": "complexity",
        "informativeness": "informativeness",
        "overall": "overall",
        "rating": "overall",  # what json-repair leaves of an unquoted "Overall rating"
        "overallrating": "overall",
        "overallscore": "overall",
        "overallquality": "overall",
        "overallqualityrating": "overall",
        "rarityrating": "rarity",
        "rarityscore": "rarity",
        "complexityrating": "complexity",
        "complexityscore": "complexity",
        "informativenessrating": "informativeness",
        "informativenessscore": "informativeness",
    }
)


@functools.lru_cache(maxsize=256)
def _part(name: str) -> str | None:
    """Which of the four ratings a name stands for."""
    return _NAMES.get("".join(c for c in name.casefold() if c.isalpha()))


def _reading(obj: Mapping[str, Any]) -> Judgement | None:
    """The judgement that an object states: all four ratings, each once, each a whole number in range."""
    inner = [value for value in obj.values() if isinstance(value, Mapping)]
    if len(obj) == 1 and len(inner) == 1:  # {"rating": {…}}, {"scores": {…}}
        obj = inner[0]
    parts: dict[str, int] = {}
    for name, value in obj.items():
        part = _part(name) if len(name) <= _MAX_NAME_CHARS else None
        if part is None:
            continue
        number = _whole_number(value)
        if number is None or parts.get(part, number) != number:
            return None
        parts[part] = number
    return Judgement(**parts) if len(parts) == 4 else None


_PLAIN = re.compile(r"\+?(\d{1,4}(?:\.0{1,6})?)(?:\s{0,4}(?:/|out of|of)\s{0,4}(\d{1,4}))?", re.IGNORECASE)


def _whole_number(value: object) -> int | None:
    """1–10 from a number, a string of one in any script's digits, "8/10", or {"score": 8, …}; else None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, Mapping):
        named = [v for k, v in value.items() if str(k).casefold() in ("score", "rating", "value")]
        return _whole_number(named[0]) if len(named) == 1 and not isinstance(named[0], Mapping) else None
    if isinstance(value, int | float):
        return int(value) if SCALE_MIN <= value <= SCALE_MAX and value == int(value) else None
    if not isinstance(value, str) or len(value) > 64:
        return None
    text = unicodedata.normalize("NFKC", value).strip().strip("\"'*_ ")
    if len(text) == 1 and not text.isdecimal():  # 八: a numeral that is no digit
        number = unicodedata.numeric(text, 0.0)
        return int(number) if SCALE_MIN <= number <= SCALE_MAX and number == int(number) else None
    found = _PLAIN.fullmatch(text)
    if not found or (found[2] is not None and int(found[2]) != SCALE_MAX):
        return None
    number = float(found[1])
    return int(number) if SCALE_MIN <= number <= SCALE_MAX else None
