"""A trained model, checked: what it writes is taken where it holds as much as extraction, and adds nothing.

A small model writes cleaner than extraction, and now and then drops a sentence or invents a word. Both are seen without
a judge. First its answer is mended sentence by sentence (:mod:`lm_mixup.distillers.mending`). Then it must have no word
that no member has, hold at least as many of the cluster's facts (:mod:`lm_mixup.distillers.coverage`) as the
extractive fusion of the same cluster, its claims must have sources (:mod:`lm_mixup.distillers.grounding`) at least as
often, it must say no sentence or line twice, leave out no part of the question, and not answer one question with what
was said to another. Otherwise the extractive fusion is taken, and says why.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lm_mixup.distillers.coverage import facts_wanted, held_facts
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.facts import Fact
from lm_mixup.distillers.grounding import grounding
from lm_mixup.distillers.lm import estimate_tokens, member_text
from lm_mixup.distillers.mending import LEAST_WORDS, invented, mended
from lm_mixup.distillers.support import Sources, claims
from lm_mixup.ports import Distiller
from lm_mixup.records import UNKNOWN_LANGUAGE, Cluster, Distillate, Failure, TaskType, digest
from lm_mixup.task_types import QA, TEMPLATES, parse, to_messages

SAME_QUESTION = 0.5
"""A text asks what an answer asks if the answer's question has so large a share of its question's content words."""
MENDED = "[mended: sentences left out or taken from the extractive fusion]"
"""What the ``think`` of a distillate says whose answer is not wholly as the model wrote it."""
_SHOWN_WORDS = 5
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s*")
VERSION = 6
"""Raised when the checks change, so that what was distilled under others is done again."""


class CheckedDistiller:
    """Distils with ``model`` and with ``extractive``, and takes the model's distillate where it passes.

    The model is asked about clusters in its range alone: at most ``max_samples`` members, in one of
    ``languages``, and no longer than ``max_tokens`` together with the extractive answer, as ``count_tokens`` counts;
    and, to save time, only about those whose best member is rated ``least_rating`` or better, and whose members share
    ``least_alike`` of their words (:func:`alike`).
    ``coverage_margin`` and ``grounding_margin`` (0–1) are how much less than extraction it may hold.

    A distillate that is extraction's carries ``[fallback: reason]`` in its ``think``, one that is mended
    :data:`MENDED`; ``templates`` make a conversation of it.
    """

    def __init__(
        self,
        model: Distiller,
        extractive: Distiller,
        *,
        max_samples: int,
        max_tokens: int,
        languages: Sequence[str] = ("en", UNKNOWN_LANGUAGE),
        coverage_margin: float = 0.0,
        grounding_margin: float = 0.0,
        least_rating: float = 0.0,
        least_alike: float = 0.0,
        templates: Mapping[str, str] = TEMPLATES,
        at_once: int | None = None,
        count_tokens: Callable[[str], int] = estimate_tokens,
    ) -> None:
        self._model = model
        self._extractive = extractive
        self._max_samples = max_samples
        self._max_tokens = max_tokens
        self._languages = frozenset(languages)
        self._coverage_margin = coverage_margin
        self._grounding_margin = grounding_margin
        self._least_rating = least_rating
        self._least_alike = least_alike
        self._templates = dict(templates)
        self._at_once = at_once
        self._count = count_tokens

    @property
    def key(self) -> str:
        """A hash of both distillers' keys and the settings."""
        limits = [self._max_samples, self._max_tokens, sorted(self._languages)]
        margins = [self._coverage_margin, self._grounding_margin]
        parts: list[object] = [VERSION, self._model.key, self._extractive.key, limits, margins]
        if self._least_rating > 0:
            parts.append(self._least_rating)
        if self._least_alike > 0:
            parts.append(["alike", self._least_alike])
        return "checked-" + digest(parts)[:16]

    @property
    def at_once(self) -> int | None:
        """How many clusters it wants to be given at a time: of some of them alone the model is asked."""
        return self._at_once or getattr(self._model, "at_once", None)

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        """One distillate, or a failure, per cluster, in order."""
        extracted = self._extractive.distill(clusters)
        outside = [self.outside(cluster, other) for cluster, other in zip(clusters, extracted, strict=True)]
        asked = [i for i, reason in enumerate(outside) if not reason]
        written = dict(zip(asked, self._model.distill([clusters[i] for i in asked]), strict=True)) if asked else {}
        return [
            self._choice(cluster, written[i], extracted[i]) if i in written else _fallback(extracted[i], outside[i])
            for i, cluster in enumerate(clusters)
        ]

    def outside(self, cluster: Cluster, extracted: Distillate | Failure) -> str:
        """Why the model is not asked about a cluster ("" if it is); ``extracted`` is what extraction made of it."""
        if len(cluster.samples) > self._max_samples:
            return f"{len(cluster.samples)} samples, and the model reads {self._max_samples}"
        if cluster.language not in self._languages:
            return f"language {cluster.language}"
        best = max(cluster.ratings, default=0.0)
        if best < self._least_rating:
            return f"the best sample is rated {best:.2f}, and the model is asked from {self._least_rating:g} on"
        texts = [member_text(sample) for sample in cluster.samples]
        shared = alike(texts)
        if shared < self._least_alike:
            return (
                f"the samples share {shared:.0%} of their words, and the model is asked from {self._least_alike:.0%} on"
            )
        answer = extracted.answer if isinstance(extracted, Distillate) else ""
        tokens = sum(map(self._count, [*texts, answer]))
        return f"about {tokens} tokens, and the model reads {self._max_tokens}" if tokens > self._max_tokens else ""

    def _choice(
        self, cluster: Cluster, written: Distillate | Failure, extracted: Distillate | Failure
    ) -> Distillate | Failure:
        if isinstance(written, Failure):
            return _fallback(extracted, f"the model gave no distillate: {written.reason}")
        texts = [member_text(sample) for sample in cluster.samples]
        made = self._mended(written, extracted, texts) if isinstance(extracted, Distillate) else written
        held, supported = (measure(made.answer, texts, cluster.task_type) for measure in (asked_coverage, grounding))
        if isinstance(extracted, Distillate):
            if words := sorted(invented(made.answer, [*texts, extracted.answer])):
                return _fallback(extracted, f"the model says what no sample says: {', '.join(words[:_SHOWN_WORDS])}")
            if says_twice(cluster.task_type, made.answer) or loops(made.answer, texts):
                return _fallback(extracted, "the model says a sentence twice")
            if asks_less(cluster.task_type, made.answer, extracted.answer, texts):
                return _fallback(extracted, "the model leaves out a part of the question")
            if astray(cluster.task_type, made.answer, texts):
                return _fallback(extracted, "the model answers one question with what was said to another")
            least, borne = (
                measure(extracted.answer, texts, cluster.task_type) for measure in (asked_coverage, grounding)
            )
            if held < least - self._coverage_margin:
                return _fallback(extracted, f"the model's holds {held:.0%} of the facts, this {least:.0%}")
            if supported < borne - self._grounding_margin:
                return _fallback(
                    extracted, f"{supported:.0%} of the model's claims have a source, {borne:.0%} of these"
                )
        note = f"[checked: holds {held:.0%} of the sources' facts; {supported:.0%} of its claims have a source]"
        return replace(made, think=f"{made.think}\n{note}".strip())

    def _mended(self, written: Distillate, extracted: Distillate, texts: Sequence[str]) -> Distillate:
        answer = mended(written.answer, extracted.answer, texts, written.task_type)
        item = parse(written.task_type, answer)
        if answer == written.answer or item is None:
            return written
        think = f"{written.think}\n{MENDED}".strip()
        return replace(written, answer=answer, messages=to_messages(item, self._templates), think=think)


def asked_coverage(answer: str, texts: Sequence[str], task_type: TaskType) -> float:
    """:func:`lm_mixup.distillers.coverage.coverage`, where a multiple-choice item asks one thing: its longest question.

    "Pick one" and "What is the answer here?" beside it are no loss.
    """
    facts = facts_wanted(texts, task_type)
    wanted = set(range(len(facts)))
    if task_type is TaskType.MCQ and (heads := _heads(facts)):
        wanted -= set(heads) - {max(heads, key=lambda number: len(content_words(facts[number].text)))}
    return len(held_facts(answer, texts, task_type) & wanted) / len(wanted) if wanted else 1.0


def alike(texts: Sequence[str]) -> float:
    """How far texts are variants of one thing (0–1): the mean share of a text's content words that the others have."""
    words = [content_words(text) for text in texts]
    shares = []
    for i, mine in enumerate(words):
        others = frozenset[str]().union(*words[:i], *words[i + 1 :])
        shares.append(len(mine & others) / len(mine) if mine else 1.0)
    return sum(shares) / len(shares) if shares else 1.0


def says_twice(task_type: TaskType, answer: str) -> bool:
    """Whether two facts of an answer's body have the same content words (at least :data:`LEAST_WORDS` of them).

    The answer to a question must not say the question again, either.
    """
    parts = ("body", "head") if task_type is TaskType.QA else ("body",)
    texts = [fact.text for fact in claims(task_type, answer) if fact.part in parts]
    said = [words for text in texts if len(words := content_words(text)) >= LEAST_WORDS]
    return len(set(said)) < len(said)


def loops(answer: str, texts: Sequence[str]) -> bool:
    """Whether an answer has one line more than once, and oftener than each text: a list that goes round in a circle."""
    said = _lines(answer)
    known = [_lines(text) for text in texts]
    return any(n > 1 and all(n > lines[line] for lines in known) for line, n in said.items())


def _lines(text: str) -> Counter[str]:
    """How often each line is there, numbers and bullets left out."""
    lines = (_BULLET.sub("", line).strip().casefold() for line in text.splitlines())
    return Counter(line for line in lines if any(map(str.isalpha, line)))


def asks_less(task_type: TaskType, answer: str, extracted: str, texts: Sequence[str]) -> bool:
    """Whether an answer to a question lacks a part of the question that the extractive fusion has."""
    if task_type is not TaskType.QA:
        return False
    lost = held_facts(extracted, texts, task_type) - held_facts(answer, texts, task_type)
    return not lost.isdisjoint(_heads(facts_wanted(texts, task_type)))


def _heads(facts: Sequence[Fact]) -> list[int]:
    return [number for number, fact in enumerate(facts) if fact.part == "head"]


def astray(task_type: TaskType, answer: str, texts: Sequence[str]) -> bool:
    """Whether an answer to a question says something that only answers to other questions bear out.

    Rows that resemble each other share words, not always a question. Only ``qa`` is looked at.
    """
    item = parse(task_type, answer)
    if not isinstance(item, QA):
        return False
    asked = content_words(item.question)
    same, elsewhere = list[str](), list[str]()
    for text in texts:
        other = parse(task_type, text)
        if not isinstance(other, QA):
            continue
        words = content_words(other.question)
        (same if len(words & asked) >= SAME_QUESTION * len(words) else elsewhere).append(other.answer)
    here, there = Sources(TaskType.PARA, same), Sources(TaskType.PARA, elsewhere)
    body = [fact for fact in claims(task_type, answer) if fact.part == "body"]
    return any(there.support(claim) and not here.support(claim) for claim in body)


def _fallback(extracted: Distillate | Failure, reason: str) -> Distillate | Failure:
    if isinstance(extracted, Failure):
        return extracted
    return replace(extracted, think=f"{extracted.think}\n[fallback: {reason}]".strip())
