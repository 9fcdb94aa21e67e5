"""The members of a cluster, read: question and answer, cleaned, with the merit that chooses the base."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_mixup.distillers.extractive_clean import clean
from lm_mixup.distillers.extractive_questions import Question, clean_question, exchange, same_question
from lm_mixup.distillers.extractive_units import Answer, defines, overlap, read_answer
from lm_mixup.distillers.extractive_whole import is_refusal, is_whole, repetition
from lm_mixup.distillers.extractive_words import WORD, content_words
from lm_mixup.records import Sample, TaskType
from lm_mixup.task_types import CS, MCQ, TFQ, Item, from_sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

REFUSAL_PENALTY = 4.0
CUT_PENALTY = 0.3
LOST_PENALTY = 1.5
OFF_TOPIC_PENALTY = 0.7
ASKS_BACK_PENALTY = 0.5
LEANS_PENALTY = 0.3
REPETITION_PENALTY = 2.0
PERSONAL_PENALTY = 0.4
PART_PENALTY = 1.5
AGREEMENT_BONUS = 0.6
TOPIC_BONUS = 0.6
DEFINES_BONUS = 0.7
"""Rating points by which a member's flaws, and its agreement with the others, move it when the base is chosen."""


PARAPHRASE = 0.85
"""With an embedder: sentences of at least this cosine say the same."""
ON_TOPIC = 0.3
"""With an embedder: a sentence is on the topic that is at least so near the question, or a sentence that is in."""
ONE_SUBJECT = 0.4
"""With an embedder: only questions of at least this cosine are joined."""


@dataclass(slots=True)
class Member:
    """A member of a cluster as question and answer, cleaned; ``merit`` is its rating less its flaws."""

    sample: Sample
    number: int
    rating: float
    item: Item | None
    question: Question
    answer: Answer
    merit: float


SHADES = frozenset({"before", "after", "more", "most", "less", "least", "first", "last"})
"""Words in which two statements of one verdict may differ."""
SAME_VERDICT = 0.6
OTHER_VERDICT = 0.75
"""Two statements share so much of the shorter one's content words; more where their verdicts differ."""
_I = re.compile(r"\b(?:I|I'm|I've|my|me)\b")
_YOU = re.compile(r"\b(?:you|your|i|my|me)\b", re.IGNORECASE)
_OPENS_LEANING = re.compile(
    r"(?:he|she|they|his|her|their|this|these|those|that|and|but|or|so|because)\b", re.IGNORECASE
)


def read_member(
    task_type: TaskType, sample: Sample, number: int, rating: float, templates: Mapping[str, str]
) -> Member | None:
    """A sample as question and answer; None where it holds no question with a whole answer in its task type's shape."""
    if task_type is TaskType.QA or task_type is TaskType.PARA:
        asked, said = exchange(sample)
        item: Item | None = None
    else:
        item = from_sample(sample, templates)
        match item:
            case MCQ():
                asked, said = item.question, item.reason
            case TFQ():
                asked, said = item.statement, item.reason
            case CS():
                asked, said = item.category, item.statement
            case _:
                return None
    question = Question.of(clean_question(asked))
    answer = read_answer(clean(said, request=asked), number, rating)
    needs_answer = task_type in (TaskType.QA, TaskType.PARA, TaskType.CS)
    if (needs_answer and not answer.units) or (task_type is not TaskType.PARA and not question.text):
        return None
    if task_type in (TaskType.PARA, TaskType.CS) and not WORD.search(answer.text):
        return None  # a qa answer may be "★★★"; a paragraph or a statement has words
    if task_type is TaskType.QA and answer.text.casefold().strip(" .?!") == question.text.casefold().strip(" .?!"):
        return None  # an echo of the question answers nothing
    return Member(sample, number, rating, item, question, answer, rating)


def merit_of(member: Member, members: list[Member]) -> float:
    """The rating less what is wrong with the answer, plus how far the others' answers bear it out."""
    answer, merit = member.answer, member.rating
    text = answer.text
    if is_refusal(answer.first):
        merit -= REFUSAL_PENALTY
    if answer.dropped:
        merit -= CUT_PENALTY + LOST_PENALTY * answer.lost
    elif len(answer.units) > 1 and answer.units[-1].prose and not is_whole(text):
        merit -= CUT_PENALTY
    if len(answer.stems) > 4 and len(member.question.stems) > 1 and not answer.stems & member.question.stems:
        merit -= OFF_TOPIC_PENALTY
    if answer.units and answer.units[-1].body.endswith("?"):
        merit -= ASKS_BACK_PENALTY
    if len(members) > 1:
        merit -= REPETITION_PENALTY * repetition(text)
    if _I.search(text) and not _YOU.search(member.question.text):
        merit -= PERSONAL_PENALTY
    if _OPENS_LEANING.match(text):
        merit -= LEANS_PENALTY
    if member.question.subject and defines(answer.first, member.question.subject):
        merit += DEFINES_BONUS
    if answer.stems and member.question.stems:
        merit += TOPIC_BONUS * overlap(answer.stems, member.question.stems)
    others = [m for m in members if m is not member and m.answer.stems and m.question.text == member.question.text]
    if others and answer.stems:
        merit += AGREEMENT_BONUS * sum(overlap(answer.stems, m.answer.stems) for m in others) / len(others)
    if member.sample.turns > 1:
        # the rating is the whole conversation's: it says the less of one exchange the less of the talk that is
        said = sum(len(m.content) for m in member.sample.messages if m.role == "assistant")
        merit -= PART_PENALTY * (1.0 - min(1.0, len(text) / max(1, said)))
    # rounded: the last bits of a sum depend on the order of its terms, and the members have no order
    return round(merit, 9)


def grouped(members: Sequence[Member], base: Member) -> list[list[Member]]:
    """The members by what they ask: first the base's group, the base at its head, then the others, best first."""
    groups = [[base]]
    for member in members:
        if member is base:
            continue
        home = next((group for group in groups if alike(group[0], member)), None)
        if home is None:
            groups.append([member])
        else:
            home.append(member)
    return groups


def alike(a: Member, b: Member) -> bool:
    """Whether two members ask the same."""
    if isinstance(a.item, TFQ) and isinstance(b.item, TFQ):
        return same_statement(a, b)
    return same_question(a.question, b.question, (a.answer.stems, b.answer.stems))


def same_statement(a: Member, b: Member) -> bool:
    """Whether two true-or-false statements are one claim in two wordings: nothing but the wording may differ."""
    one, other = a.question, b.question
    if one.text.casefold().strip(" .") == other.text.casefold().strip(" ."):
        return True
    assert isinstance(a.item, TFQ)
    assert isinstance(b.item, TFQ)
    agree = a.item.verdict == b.item.verdict
    if (one.signs ^ other.signs) - (SHADES if agree else frozenset()) or (
        one.names and other.names and not one.names & other.names
    ):
        return False
    mine, theirs = content_words(one.text), content_words(other.text)
    shared = len(mine & theirs)
    least = SAME_VERDICT if agree else OTHER_VERDICT
    return shared >= 2 and shared >= least * min(len(mine), len(theirs))


def variants(base: Member, other: Member) -> bool:
    """Whether two paragraphs or statements are variants of one, or speak about the same."""
    if base.question.text and base.question.text.casefold() == other.question.text.casefold():
        return True
    shared = overlap(base.answer.stems, other.answer.stems)
    same = same_question(base.question, other.question, (base.answer.stems, other.answer.stems))
    return shared >= 0.3 or (same and shared >= 0.15)


class Meaning:
    """Vectors by text, and the two questions that they answer. Texts without a vector are never vetoed."""

    def __init__(self, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        self._vectors = vectors

    def likeness(self, a: str, b: str) -> float | None:
        """Cosine of two texts, None where one has no vector."""
        one, other = self._vectors.get(a), self._vectors.get(b)
        return float(one @ other) if one is not None and other is not None else None

    def veto(self, question: str) -> Callable[[str, Sequence[str]], bool]:
        """Says of a sentence whether it paraphrases one that is in, or has nothing to do with question and answer."""

        def vetoed(sentence: str, present: Sequence[str]) -> bool:
            near = [value for text in present if (value := self.likeness(sentence, text)) is not None]
            topic = self.likeness(sentence, question)
            closest = max(near, default=0.0)
            return closest >= PARAPHRASE or (topic is not None and max(topic, closest) < ON_TOPIC)

        return vetoed
