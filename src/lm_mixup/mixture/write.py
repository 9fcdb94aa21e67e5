"""Step 2 without a language model: targets taken from what the sources say, word for word. METHOD § 2 (2).

- ``qa``: a real question; its answer, and the sentences that support it;
- ``mcq``, ``tfq``: items as they are, with the source's reason where it has one;
- ``cs``: a topic, and sentences of its article that name it;
- ``para``: the paragraph itself.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.mixture.clean import leans
from lm_mixup.mixture.collect import supporting
from lm_mixup.mixture.material import Exercise, Passage, Target
from lm_mixup.mixture.statements import spoken
from lm_mixup.records import TaskType, digest
from lm_mixup.task_types import CS, QA, Item, Para, parse, render

_REQUESTS = (
    "Write a paragraph on the following topic: {topic}",
    "Write a paragraph for an encyclopedia. The topic: {topic}",
    "Write one informative paragraph. Its topic: {topic}",
)


@dataclass
class Written:
    """Targets; ``tried`` = their number + ``dropped`` by reason."""

    targets: list[Target] = field(default_factory=list)
    tried: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class ExtractiveWriter:
    """Writes every target that a passage or an item gives; it invents nothing.

    ``min_paragraph_words`` is for ``para``; a ``cs`` statement has at most ``statement_words`` words, and a passage
    gives at most ``statements`` of them.
    """

    key = "extractive-2"

    def __init__(self, *, min_paragraph_words: int = 50, statement_words: int = 75, statements: int = 2) -> None:
        self._min_paragraph_words = min_paragraph_words
        self._statement_words = statement_words
        self._statements = statements

    def write(self, passages: Sequence[Passage], exercises: Sequence[Exercise]) -> Written:
        """The targets in the order of the material; equal ones (but for case and signs) are written once."""
        out = Written()
        seen: set[str] = set()

        def add(made: Iterator[tuple[Item | str, Passage | Exercise]]) -> None:
            for item, origin in made:
                out.tried += 1
                if isinstance(item, str):
                    out.dropped[item] += 1
                    continue
                target = make_target(item, origin)
                if parse(target.task_type, render(item)) != written(item):
                    out.dropped["form-breaks"] += 1  # an option that looks like an answer line, a "Q:" in a sentence
                elif (text := f"{target.task_type} {spoken(item)}") in seen:
                    out.dropped["duplicate"] += 1
                else:
                    seen.add(text)
                    out.targets.append(target)

        for passage in passages:
            add(self._of_passage(passage))
        add((exercise.item, exercise) for exercise in exercises)
        return out

    def _of_passage(self, passage: Passage) -> Iterator[tuple[Item | str, Passage]]:
        for question, answer in passage.questions:
            yield answered(question, answer, passage.sentences) or "unsupported-answer", passage
        for statement in self._about(passage):
            yield CS(passage.topic, statement), passage
        if len(passage.text.split()) >= self._min_paragraph_words and len(passage.sentences) >= 3:
            yield Para(passage.text, self._request(passage)), passage

    def _request(self, passage: Passage) -> str:
        if not passage.topic:
            return ""
        return random.Random(f"request:{passage.id}").choice(_REQUESTS).replace("{topic}", passage.topic)

    def _about(self, passage: Passage) -> Iterator[str]:
        """Runs of one to four sentences that begin with one naming the topic."""
        if not passage.topic:
            return
        given, at = 0, 0
        while at < len(passage.sentences) and given < self._statements:
            first = passage.sentences[at]
            if leans(first) or not names(passage.topic, first):
                at += 1
                continue
            run = [first]
            words = len(first.split())
            for sentence in passage.sentences[at + 1 : at + 4]:
                words += len(sentence.split())
                if words > self._statement_words:
                    break
                run.append(sentence)
            if sum(len(s.split()) for s in run) <= self._statement_words + 25:
                given += 1
                yield " ".join(run)
            at += len(run) + 1


def names(topic: str, sentence: str) -> bool:
    """Whether the sentence names the topic: two thirds of its words, or a name by its last word ("Lincoln")."""
    wanted, there = content_words(topic), content_words(sentence)
    last = topic.split()[-1]
    surname = last[:1].isupper() and len(topic.split()) in (2, 3) and topic.split()[0].istitle()
    return bool(wanted) and (len(wanted & there) * 3 >= 2 * len(wanted) or (surname and f" {last}" in f" {sentence}"))


def answered(question: str, answer: str, sentences: Sequence[str]) -> QA | None:
    """The question with its answer and the sentences that support it; None where no sentence does."""
    given = "" if answer.casefold() in ("yes", "no") else answer
    support = supporting(question, sentences, given)
    if not support:
        return None
    short = answer[0].upper() + answer[1:]
    short = short if re.search(r"[.!?]$", short) else short + "."
    # an answer that is a sentence of its own says it all
    text = " ".join(support)
    return QA(question, text if text.startswith(short.rstrip(".")) else f"{short} {text}")


def make_target(item: Item, origin: Passage | Exercise) -> Target:
    """A target with an id made of its type and text."""
    target = Target("", item, (origin.group,), origin.source, getattr(origin, "topic", ""))
    return Target(target_id(target.task_type, render(item)), item, target.groups, target.source, target.topic)


def target_id(task_type: TaskType, output: str) -> str:
    """``TYPE-`` and 16 hex digits of the output's hash."""
    return f"{task_type}-{digest([str(task_type), output])[:16]}"


def written(item: Item) -> Item:
    """The item as its written form gives it back: a paragraph's form does not hold its request."""
    return Para(item.text) if isinstance(item, Para) else item
