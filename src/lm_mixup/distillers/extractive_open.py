"""What a question asks for: its kind (why, how, who …), and the subject of an open one ("Tell me about tides.")."""

from __future__ import annotations

import re

from lm_mixup.distillers.extractive_words import content_words, word_set
from lm_mixup.distillers.segments import split_sentences

_POLITE = re.compile(
    r"(?:(?:please|kindly|hey|hi|so|ok|okay|can you|could you|would you|can someone)[ ,]+)*", re.IGNORECASE
)
_OPEN = re.compile(
    r"(?:tell (?:me|us) (?:more |something |a bit |a little )?about"
    r"|what do you know about|what can you (?:tell|say) (?:me )?about|talk about|write (?:me )?(?:something )?about"
    r"|(?:write|give)(?: me)? (?:a|an|some)(?: \w+){0,2}? (?:article|essay|overview|paragraph|report|summary"
    r"|description|introduction|explanation|info|information) (?:about|on|of|to)"
    r"|explain(?: to me)?(?: briefly)?(?: the concept of| what)?|describe|define"
    r"|how (?:does|do)(?= [^?]{2,60} works?\b)"
    r"|(?P<plain>what(?:'s|’s|s| is| are| was| were| exactly is| exactly are)|who(?:'s|’s| is| was| are| were)))\s+",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"[\s,]*(?:\bto (?:me|a \w+)|\bbriefly|\bplease|\bpls|\bexactly|\bin (?:(?:very )?simple|plain|your own|a few"
    r"|short|brief|detail|general)(?: \w+)?"
    r"|\bfor (?:beginners|dummies)|\blike i'?m five|\bworks?|\b(?:is|are)|\bused for|\bmean)?[\s?.!]*$",
    re.IGNORECASE,
)
_MEANING = re.compile(
    r"([\w' -]{3,50}?),? (?:meaning|definition|explained|explanation|basics|in a nutshell)[\s?.!]*$", re.IGNORECASE
)
_WIDE = re.compile(
    r",? and (?=(?:how|why|what|where|when|who)\b(?! (?:is|are|was|were) (?:the )?(?:difference|best)))", re.IGNORECASE
)
_NARROWS = word_set(
    "and or how why when where who which what that with without for from between than difference differences best top "
    "good main most purpose reason cause causes name use uses used made make happens happened capital number"
    " example examples"
)
"""Words that make of "What is …" a question of its own, not one for all about a subject."""
_SUBJECT_WORDS = 4
"""A subject has at most so many content words."""

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("why", r"why\b|how come\b|what (?:causes?|caused|makes?|made)\b"
         r"|what(?:'s| is| are| was| were) the (?:reason|cause)"),
        ("measure", r"how (?:many|much|long|often|old|far|tall|big|large|high|fast|heavy|deep|hot|cold|wide)\b"),
        ("when", r"when\b|(?:what|which) (?:year|date|day|time)\b|in (?:what|which) year\b"),
        ("where", r"where\b"),
        ("how", r"how\b|explain how\b"),
        ("who", r"who(?:se|m|'s)?\b"),
        ("what", r"(?:what|which|what's|whats)\b"),
        ("whether", r"(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have|am)\b"),
        ("request", r"(?:tell|explain|describe|define|list|name|give|provide|suggest|identify|compare|classify"
         r"|write|find)\b"),
    )
)  # fmt: skip
RANKS = {"open": 0, "request": 1, "other": 1, "what": 1, "who": 1, "why": 2, "how": 3, "measure": 4, "when": 4,
         "where": 4, "whether": 5}  # fmt: skip
"""The order in which questions of different kinds are asked in one breath: first what it is, last whether it is so."""


def kind_of(text: str) -> str:
    """The kind of a question, a key of :data:`RANKS` but "open"; "other" where it begins like none of them."""
    sentence = text
    if "?" in text[:-1] or "." in text[:-1]:
        asked = [one for one in split_sentences(text) if one.rstrip().endswith("?")]
        sentence = asked[0] if asked else text
    at = _POLITE.match(sentence)
    rest = sentence[at.end() if at else 0 :]
    return next((name for name, pattern in _KINDS if pattern.match(rest)), "other")


def subject_of(text: str) -> tuple[frozenset[str], bool]:
    """The subject of an open request, as stems, and whether it asks more than that ("… and how do they form?").

    An empty set where the question is not open.
    """
    if len(text) > 160 or "\n" in text or ":" in text:
        return frozenset(), False
    at = _POLITE.match(text)
    rest = text[at.end() if at else 0 :]
    found = _OPEN.match(rest)
    if not found:
        named = _MEANING.match(rest)
        stems = content_words(named[1]) if named else frozenset()
        return (stems if len(stems) <= _SUBJECT_WORDS else frozenset()), False
    parts = _WIDE.split(rest[found.end() :], maxsplit=1)
    subject = _TAIL.sub("", parts[0], count=1)
    subject = _TAIL.sub("", subject, count=1)
    words = subject.casefold().replace(",", " ").split()
    plain_of = found["plain"] is not None and "of" in words
    if not words or len(words) > 2 * _SUBJECT_WORDS or plain_of or not _NARROWS.isdisjoint(words):
        return frozenset(), False
    if any(mark in subject for mark in ".?!") or (found["plain"] and {"in", "on", "at", "to", "by"} & set(words)):
        return frozenset(), False
    stems = content_words(subject)
    return (stems, len(parts) > 1) if 0 < len(stems) <= _SUBJECT_WORDS else (frozenset(), False)
