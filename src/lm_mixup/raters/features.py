"""Surface features of a sample: what can be told about a text without understanding it.

They stand beside the embedding in the learned rater (:mod:`lm_mixup.raters.learned`): the embedding knows what a text
is about and loses how long it is, how it is set out and whether it is damaged; these features know just that. Each is
a pure function of one sample's text, linear in its length and defined for any text in any script; the names and
their meanings stand in :data:`FEATURES`, in the order of the vector.

A **word** is a run of letters or digits, or one character of a script written without spaces (Han, kana, Thai …), so
that counts are comparable between scripts, if not equal.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from lm_mixup.records import Sample

FEATURES_VERSION = 1
"""Raised whenever a feature of the same text would come out otherwise: it is part of every learned rater's key."""

MAX_CHARS = 20_000
"""Only so many characters of a prompt or completion are looked at; counts of a longer text are scaled up. It bounds the
time of a megabyte row; of real rows, one in ten thousand is longer."""

REFUSAL_CHARS, REFUSAL_WORDS = 200, 200
"""A refusal is looked for in so many first characters; one that goes on for so many words has answered after all."""

FEATURES: Mapping[str, str] = MappingProxyType(
    {
        "completion_words": "log(1 + words of the completion)",
        "prompt_words": "log(1 + words of the prompt)",
        "turns": "log of the number of user turns (0 for one)",
        "sentences": "log(1 + sentences of the completion); a line break ends one",
        "sentence_words": "log(1 + words a sentence)",
        "paragraphs": "log(1 + blank-line breaks in the completion)",
        "diversity": "log(distinct words) / log(words), Herdan's C; 1 for fewer than two words",
        "long_words": "share of words of seven letters or more",
        "word_letters": "mean letters a word, at most 12",
        "distinct_long": "log(1 + distinct words of six letters or more): how much matter there is",
        "names": "share of words that begin with a capital and do not begin a sentence",
        "digits": "share of words that hold a digit",
        "list_lines": "share of lines that begin with a bullet or a number",
        "list_length": "log(1 + such lines)",
        "table_or_heading": "share of lines that are table rows or headings",
        "code": "share of characters inside code fences, or of lines that look like code",
        "formula": "1 if there is LaTeX or an equation",
        "punctuation": "commas, colons, semicolons, brackets and dashes a word",
        "connectives": "words such as because, therefore, however, for example, a sentence (English)",
        "first_person": "share of words that are I, me, my, we (English)",
        "completion_asks": "log(1 + question marks in the completion)",
        "prompt_asks": "log(1 + question marks in the prompt)",
        "prompt_directs": "1 if the prompt begins with write, list, explain, describe … (English)",
        "prompt_reasons": "1 if the prompt holds why, how, explain, compare … (English)",
        "prompt_choices": "1 if the prompt gives options, or asks to classify or pick (English)",
        "copied": "share of the completion's word triples (words, if it has fewer than three) that stand in the prompt",
        "echo": "share of all word triples of prompt and completion in both; 0 if the completion has a new word",
        "answered": "share of the prompt's distinct long words that come again in the completion",
        "repeated": "share of the word triples of the prose (the completion without code) that came before in it",
        "doubled": "words of the prose that equal the word before them, over its words + 10",
        "refusal": "1 − words / 200, at least 0, if the completion begins by refusing or as an AI (English phrases)",
        "markup": "tags, entities and control marks of the prose a word, at most 1",
        "garbage": "share of characters that are no letter, digit, space, mark or common sign",
        "mixed_scripts": "share of letters that are not of the completion's main script",
        "no_end": "1 if a completion of eight words or more ends without an end sign, code fence or list item",
        "lower_start": "sentences of the prose, but the first, that begin with a small letter, over its sentences + 1",
        "capitals": "share of cased letters that are capitals",
        "spacing": "signs with a space before them, doubled spaces and signs with none after them, a word",
        "stray_words": "neighbouring function words that English does not put side by side (the of …), over words + 10",
    }
)
"""Name → meaning of each feature, in the order of the vector."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’][^\W\d_{_UNSPACED}]+)?")
# Quantifiers are bounded, or guarded by a look-behind, where a long run could be read again from each of its
# characters: the time is linear in the text whatever the text.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]{0,4}(?=\s)|[。！？।؟]++|\n++")
_LIST_LINE = re.compile(r"\s{0,8}(?:[-*•‣·–+]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)]|step\s+\d+)\s*\S", re.IGNORECASE)
_TABLE_OR_HEADING = re.compile(r"\s{0,3}(?:#{1,6}\s\S|\|.*\||[^|\n]++\|[^|\n]++\|)")
_CODE_LINE = re.compile(
    r"\s{0,40}(?:def |class \w|import \w|from \w+ import|return\b|(?:for|if|while) .{1,80}:$|function |var |let |"
    r"const |#include|SELECT |print\(|public |private |</?\w+[^>\n]{0,200}>$|\$ \w|.{0,200}[;{}]$)"
)
_FULL_STOP = re.compile(r"(?:(?<=[^\W\d_])|(?<=[\"'”’)]))[.!?…]{1,3}[\"'”’)\]]{0,4}\s+(?=\w)")
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_FORMULA = re.compile(
    r"\\(?:frac|sum|int|sqrt|begin|left|cdot|times)\b|\$\$|\$[^$\n]{1,80}\\[^$\n]{1,80}\$|"
    r"\d\s{0,3}[-+*/×÷^]\s{0,3}\d{1,12}\s{0,3}="
)
_PUNCTUATION = re.compile(r"[,;:()—–、，；：]")
_CONNECTIVE = re.compile(
    r"\b(?:because|therefore|thus|hence|however|although|though|whereas|while|since|so that|for example|"
    r"for instance|such as|in addition|additionally|moreover|furthermore|finally|firstly|secondly|first|second|then|"
    r"next|in order to|as a result|due to|including|which means|in other words|overall|"
    r"in conclusion|on the other hand)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = frozenset({"i", "me", "my", "mine", "myself", "we", "i'm", "i've", "i'd", "i'll", "i’m", "i’ve"})
_DIRECTS = re.compile(
    r"(?:please\s+|can you\s+|could you\s+)?(?:write|list|explain|describe|give|create|suggest|provide|name|tell|"
    r"compose|summari[sz]e|generate|discuss|compare|classify|identify|translate|make|draft|outline|define)\b",
    re.IGNORECASE,
)
_REASONS = re.compile(
    r"\b(?:why|how (?:do|does|did|can|could|should|would|is|are|to)|explain|compare|difference|differences|discuss|"
    r"analy[sz]e|pros and cons|advantages|steps|reasons?|describe)\b",
    re.IGNORECASE,
)
_CHOICES = re.compile(
    r"\b(?:classify|which (?:of|one)|pick|choose|categori[sz]e|true or false|yes or no|identify which|options?|"
    r"tell me (?:whether|which))\b|^[ \t]{0,8}\(?[A-Da-d][).][ \t]",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b|"
    r"\bi(?:['’]m| am) (?:sorry,? (?:but )?(?:i|as|we)|not able to|unable to|just an ai)\b|\bi have no idea\b|"
    r"\bi can(?:not|['’]t) (?:help|answer|assist|do that|provide)\b|"
    r"\bi do(?: not|n['’]t) (?:know|understand|have access)\b",
    re.IGNORECASE,
)
_MARKUP = re.compile(
    r"</?[A-Za-z!][^<>\n]{0,200}>|&(?:[a-z]{2,8}|#\d{1,6});|\[(?:edit|citation needed)\]|<\|[^|\n]{1,40}\|>",
    re.IGNORECASE,
)
_GARBAGE = re.compile(
    r"[^\w\s.,;:!?'\"()\[\]{}<>/\\|@#$%^&*+=~`–—‘’“”„«»…•·°€£¥§©®™×÷±≤≥≠→←↔√∑∞≈½¼¾²³‣、。，！？；：「」『』（）《》【】।؟،؛¿¡-"
    r"\u0300-\u036f\u0590-\u06ff\u0900-\u0eff\u1000-\u109f\u1780-\u17ff\u2000-\u206f\u2200-\u24ff\u2600-\u27bf\ufe0f"
    r"\U0001f000-\U0001faff]|\u00c3[\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bf\u00bd"
)
_SCRIPTS = {
    "latin": re.compile(r"[A-Za-z\u00aa-\u024f\u1e00-\u1eff]"),
    "greek": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"),
    "cyrillic": re.compile(r"[\u0400-\u052f]"),
    "hebrew_arabic": re.compile(r"[\u0590-\u06ff\u0750-\u077f]"),
    "indic": re.compile(r"[\u0900-\u0dff]"),
    "south_east_asian": re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"),
    "han_kana": re.compile(r"[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff]"),
    "hangul": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]"),
}
_END = re.compile(r"(?:[.!?…。！？।؟:;)\]}\"'”’»*%|>]|```|[0-9])$")
_SPACING = re.compile(r"\s[,;.!?](?=\s|$)|(?<=\S)[ \t]{2,}+(?=\S)|[a-z]{2}[,;!?][A-Za-z]{2}|(?<![,;])[,;]{2,}+")
_DETERMINERS = frozenset({"the", "a", "an", "my", "your", "his", "its", "our", "their"})
_NOT_AFTER_DETERMINER = frozenset(
    re.findall(
        r"\w+",
        "the a an of in on at to for with from by and or is are was were be been has have had do does did that this"
        " it they he she we you i as if but because than then not will would can could should may his her their its",
    )
)
_PREPOSITIONS = frozenset({"of", "at", "from", "with", "into", "and", "or", "but"})
_NOT_AFTER_PREPOSITION = frozenset({"of", "is", "are", "was", "were", "and", "or", "but", "has", "have", "had"})


def matrix(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """(n_samples, n_features) float64, finite, columns as in :data:`FEATURES`."""
    out = np.empty((len(samples), len(FEATURES)), dtype=np.float64)
    for row, sample in enumerate(samples):
        out[row] = features(sample.prompt, sample.completion, turns=sample.turns)
    return out


def features(prompt: str, completion: str, *, turns: int = 1) -> list[float]:
    """The features of one sample, as many as :data:`FEATURES` and in its order; finite for any text.

    ``prompt`` is everything before the last turn (roles named where there are several turns), ``completion`` the last
    assistant turn: the two halves of :attr:`lm_mixup.records.Sample.text`, which is what is rated (METHOD § 1.1).
    """
    said, asked = _Text(completion), _Text(prompt)
    return [
        *_lengths(said, asked, turns),
        *_words(said),
        *_layout(said),
        *_manner(said, asked),
        *_overlap(said, asked),
        *_damage(said),
    ]


class _Text:
    """One half of a sample with what several features need of it."""

    def __init__(self, text: str) -> None:
        self.full = text.strip()
        self.text = self.full[:MAX_CHARS]
        self.scale = len(self.full) / len(self.text) if self.text else 1.0

    @cached_property
    def words(self) -> list[str]:
        return _WORD.findall(self.text)

    @cached_property
    def lower(self) -> list[str]:
        return [w.lower() for w in self.words]

    @cached_property
    def word_count(self) -> float:
        return len(self.words) * self.scale

    @cached_property
    def lines(self) -> list[str]:
        return [line for line in self.text.split("\n") if line.strip()]

    @cached_property
    def unfenced(self) -> str:
        return _FENCE.sub("", self.text) if "```" in self.text else self.text

    @cached_property
    def without_code(self) -> str:
        return "\n".join(line for line in self.unfenced.split("\n") if not _CODE_LINE.match(line.rstrip()))

    @cached_property
    def code_share(self) -> float:
        coded = sum(bool(_CODE_LINE.match(line.rstrip())) for line in self.lines)
        return max(_share(coded, len(self.lines)), 1.0 - len(self.unfenced) / max(1, len(self.text)))

    @cached_property
    def sentences(self) -> list[str]:
        return [s for part in _SENTENCE_END.split(self.text) if _has_word(s := part.strip())]

    @cached_property
    def triples(self) -> list[tuple[str, str, str]]:
        return list(zip(self.lower, self.lower[1:], self.lower[2:], strict=False))


def _has_word(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _lengths(said: _Text, asked: _Text, turns: int) -> list[float]:
    sentences = len(said.sentences) * said.scale
    return [
        math.log1p(said.word_count),
        math.log1p(asked.word_count),
        math.log(max(1, turns)),
        math.log1p(sentences),
        math.log1p(_share(said.word_count, sentences)),
        math.log1p(said.text.count("\n\n") * said.scale),
    ]


def _words(said: _Text) -> list[float]:
    count = len(said.words)
    distinct = set(said.lower)
    diversity = math.log(len(distinct)) / math.log(count) if count > 1 else 1.0
    starts = {s.split(maxsplit=1)[0] for s in said.sentences}
    names = sum(w[0].isupper() and w not in starts and len(w) > 1 for w in said.words)
    return [
        diversity,
        _share(sum(len(w) >= 7 for w in said.words), count),
        min(12.0, _share(sum(map(len, said.words)), count)),
        math.log1p(sum(len(w) >= 6 for w in distinct)),
        _share(names, count),
        _share(sum(any(c.isdigit() for c in w) for w in said.words), count),
    ]


def _layout(said: _Text) -> list[float]:
    lines = len(said.lines)
    listed = sum(bool(_LIST_LINE.match(line)) for line in said.lines)
    tables = sum(bool(_TABLE_OR_HEADING.match(line)) for line in said.lines)
    return [
        _share(listed, lines),
        math.log1p(listed * said.scale),
        _share(tables, lines),
        said.code_share,
        float(bool(_FORMULA.search(said.text))),
        min(1.0, _share(len(_PUNCTUATION.findall(said.text)), len(said.words))),
    ]


def _manner(said: _Text, asked: _Text) -> list[float]:
    return [
        min(3.0, _share(len(_CONNECTIVE.findall(said.text)), len(said.sentences))),
        _share(sum(w in _FIRST_PERSON for w in said.lower), len(said.lower)),
        math.log1p((said.text.count("?") + said.text.count("？")) * said.scale),
        math.log1p((asked.text.count("?") + asked.text.count("？")) * asked.scale),
        float(bool(_DIRECTS.match(asked.text))),
        float(bool(_REASONS.search(asked.text))),
        float(bool(_CHOICES.search(asked.text))),
    ]


def _overlap(said: _Text, asked: _Text) -> list[float]:
    # a completion of one or two words has no triples: its words are looked for instead
    mine: Sequence[object] = said.triples or said.lower
    theirs: set[object] = set(asked.triples if said.triples else asked.lower)
    copied = _share(sum(unit in theirs for unit in mine), len(mine))
    both = theirs.union(mine)
    adds = not set(asked.lower).issuperset(said.lower)
    echo = 0.0 if adds else _share(len(theirs.intersection(mine)), len(both))
    subject = {w for w in asked.lower if len(w) >= 5}
    answered = _share(len(subject.intersection(said.lower)), len(subject))
    return [copied, echo, answered]


def _damage(said: _Text) -> list[float]:
    # code repeats itself, begins lines with small letters and holds tags: damage is looked for in the prose around it
    prose = said if said.code_share == 0.0 else _Text(said.without_code)
    count = len(prose.words)
    triples = len(prose.triples)
    doubled = sum(a == b and a.isalpha() for a, b in itertools.pairwise(prose.lower))
    refuses = _REFUSAL.search(said.text, 0, REFUSAL_CHARS) is not None
    starts = _FULL_STOP.split(prose.text)[1:]
    upper = sum(map(str.isupper, said.text))
    cased = upper + sum(map(str.islower, said.text))
    ends = bool(_END.search(said.full[-8:])) or bool(said.lines and _LIST_LINE.match(said.lines[-1]))
    return [
        1.0 - len(set(prose.triples)) / triples if triples else 0.0,
        doubled / (count + 10),
        max(0.0, 1.0 - said.word_count / REFUSAL_WORDS) if refuses else 0.0,
        min(1.0, len(_MARKUP.findall(prose.text)) / max(1, count)),
        _share(len(_GARBAGE.findall(said.text)), len(said.text)),
        _mixed_scripts(said.text),
        float(len(said.words) >= 8 and not ends),
        sum(start[:1].islower() for start in starts) / (len(starts) + 2),
        _share(upper, cased),
        min(1.0, _share(len(_SPACING.findall(prose.text)), count)),
        _stray_words(prose.lower),
    ]


def _mixed_scripts(text: str) -> float:
    if text.isascii():
        return 0.0
    counts = [len(pattern.findall(text)) for pattern in _SCRIPTS.values()]
    return 1.0 - _share(max(counts), sum(counts)) if sum(counts) else 0.0


def _stray_words(words: Sequence[str]) -> float:
    stray = sum(
        (a in _DETERMINERS and b in _NOT_AFTER_DETERMINER)
        or (a in _PREPOSITIONS and b in _NOT_AFTER_PREPOSITION and a != b)
        for a, b in itertools.pairwise(words)
    )
    return stray / (len(words) + 10)
