"""Mending a model's answer, sentence by sentence, with what extraction made of the same cluster.

A small model writes cleaner than extraction, and now and then invents a word, says a sentence twice or drops one. One
such sentence is no reason to throw the others away: it goes, and the sentences of the extractive fusion that hold what
is then missing come in where they belong. Only running text is mended: an answer of several lines stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_mixup.distillers.coverage import held_facts
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.segments import split_sentences
from lm_mixup.distillers.support import Sources, claims
from lm_mixup.records import TaskType
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para, parse, render

LEAST_WORDS = 4
"""Shorter facts are not compared: "It was built in 1901" may be said of two things. Nor does a shorter sentence come
in: two bare answers ("(B)", "Yes.") are answers to two questions."""
_SAID = 0.7
"""A sentence that has so large a share of another's words says what that one says."""

_BODY: Mapping[type[Item], str] = {QA: "answer", CS: "statement", Para: "text", TFQ: "reason", MCQ: "reason"}
"""Where the running text of an item of each type stands."""


def invented(answer: str, texts: Sequence[str]) -> frozenset[str]:
    """The content words (stems) of an answer that no text has. A model that distils has no word of its own to say.

    Of 113 answers of a trained model with a word that is in no source, nor one typing error away from one, 110 had one
    that the reference does not have either.
    """
    return content_words(answer) - _words(texts)


def mended(answer: str, extracted: str, texts: Sequence[str], task_type: TaskType) -> str:
    """``answer`` without its bad sentences, and with those of ``extracted`` that hold what it lacks.

    A sentence is bad if the texts do not support it, if it has a word that neither they nor ``extracted`` have, or if
    it says again what one before it says. An answer of several lines, without its type's form, or without one good
    sentence comes back as it is.
    """
    item, other = parse(task_type, answer), parse(task_type, extracted)
    if item is None or other is None:
        return answer
    body, more = (str(getattr(one, _BODY[type(one)])) for one in (item, other))
    if "\n" in body or "\n" in more:
        return answer
    kept = _sound(_sentences(body), _words([*texts, extracted]), Sources(TaskType.PARA, texts))
    if body and not kept:
        return answer
    wanted = held_facts(extracted, texts, task_type)
    behind = 0
    for sentence in _sentences(more):
        place = _place(sentence, kept, behind)
        if place is not None:
            behind = place + 1
            continue
        if len(content_words(sentence)) < LEAST_WORDS:
            continue
        lacking = wanted - held_facts(_with(item, kept), texts, task_type)
        with_it = [*kept[:behind], sentence, *kept[behind:]]
        if lacking & held_facts(_with(item, with_it), texts, task_type):
            kept, behind = with_it, behind + 1
    return _with(item, kept)


def _words(texts: Sequence[str]) -> frozenset[str]:
    return frozenset[str]().union(*map(content_words, texts))


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in split_sentences(text) if sentence.strip()]


def _sound(sentences: Sequence[str], known: frozenset[str], sources: Sources) -> list[str]:
    """The sentences that have a source, no word but the known ones, and something new to say."""
    kept: list[str] = []
    said: list[frozenset[str]] = []
    for sentence in sentences:
        words = content_words(sentence)
        again = len(words) >= LEAST_WORDS and any(words <= before for before in said)
        if again or not words <= known or not all(map(sources.support, claims(TaskType.PARA, sentence))):
            continue
        kept.append(sentence)
        said.append(words)
    return kept


def _place(sentence: str, kept: Sequence[str], behind: int) -> int | None:
    """Which of the kept sentences says what this one says, from ``behind`` on first; None if none does."""
    words = content_words(sentence)
    order = [*range(behind, len(kept)), *range(behind)]
    best = max(order, key=lambda i: len(words & content_words(kept[i])), default=None)
    if best is None or not words:
        return None
    return best if len(words & content_words(kept[best])) >= _SAID * len(words) else None


def _with(item: Item, sentences: Sequence[str]) -> str:
    changed: dict[str, Any] = {_BODY[type(item)]: " ".join(sentences)}
    return render(replace(item, **changed))
