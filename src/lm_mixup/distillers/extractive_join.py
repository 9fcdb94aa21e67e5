"""Joining: several related questions as one user turn, in a natural order, each with its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lm_mixup.distillers.extractive_clean import tidy_sentence
from lm_mixup.distillers.extractive_members import Member
from lm_mixup.distillers.extractive_open import kind_of
from lm_mixup.distillers.extractive_questions import best_wording, finish_question
from lm_mixup.distillers.extractive_units import Fused, verdict_only
from lm_mixup.distillers.extractive_whole import is_refusal, is_whole
from lm_mixup.distillers.extractive_words import WORD, content_words
from lm_mixup.distillers.segments import Kind, segment

BARE_WORDS = 6
"""Answers of fewer words are numbered like their questions."""
NUMBERED_PARTS = 4
"""So many parts, or more, are numbered."""
LONG_QUESTION_CHARS = 300
"""A user turn of more characters is kept as the base has it."""
PART_NEW = 0.4
"""A part has to say so large a share of its content words for the first time."""

PERSONAL_CHARS = 150
"""A shorter answer that speaks of "I", to a question that does not, is small talk."""

_PERSONAL = re.compile(r"\b(?:I|I'm|I've|my|me)\b")
_EMPTY = re.compile(r"(?:it|that) depends|(?:yes|no|maybe|perhaps|idk|i don'?t know|no idea)\b", re.IGNORECASE)
_CONTEXT = re.compile(
    r"\b(?:according to|based on|from|in) (?:the|this) (?:given |above |provided )?(?:passage|paragraph|text"
    r"|context|article|prompt|reference)\b",
    re.IGNORECASE,
)
_HEAD = re.compile(r"(?:[^\s:?]+\s+){2,24}[^\s:?]+[:?]")


@dataclass(frozen=True, slots=True)
class Part:
    """A question and its answer, on their way into a joined row."""

    asker: Member
    question: str
    answer: str

    @property
    def rank(self) -> int:
        """Where its kind of question stands in a row (see ``extractive_open.RANKS``)."""
        return self.asker.question.rank


def can_be_part(member: Member, answer: str, *, max_chars: int, max_question_chars: int) -> bool:
    """Whether a question with this answer can stand in a row with others: short, plain, and clear by itself."""
    question = member.question
    return (
        len(answer) <= max_chars
        and len(question.text) <= max_question_chars
        and "\n" not in question.text
        and (question.asks or question.keyword)
        and question.stands
        and verdict_only(answer) is None
        and not (question.made and "```" not in answer)
        and not is_refusal(member.answer.first)
        and WORD.search(answer) is not None
        and not (bare(answer) and kind_of(answer) not in ("other", "request"))
        and not (bare(answer) and _EMPTY.match(answer))
        and not _CONTEXT.search(answer)
        and not (len(answer) < PERSONAL_CHARS and _PERSONAL.search(answer) and not _PERSONAL.search(question.text))
        and not answer.rstrip().endswith((":", "?"))
    )


def part_of(group: list[Member], fused: Fused) -> Part:
    """A group's question, in the wording of a member that is in its answer, with the answer."""
    used = [m for m in group if fused.taken[m.number] > 0] or group[:1]
    wide = [m for m in used if m.question.wide]
    asker = best_asker(wide or group, group[0])
    return Part(asker, asker.question.text, fused.text)


def best_asker(members: list[Member], base: Member | None = None) -> Member:
    """The member whose wording of the question is the best formed; the first of equals.

    Only wordings with the base's own content words count, since its answer was given to those; of an open request any
    that asks more. Where the base's user turn is long it stays: it holds more than a question.
    """
    base = base or members[0]
    if len(base.question.text) > LONG_QUESTION_CHARS:
        return base
    if members[0].question.wide:
        return members[0]
    same = [m for m in members if m.question.stems == base.question.stems and not m.question.wide] or [base]
    wording = best_wording([m.question.text for m in same])
    return next(m for m in same if m.question.text == wording)


def compose(parts: Sequence[Part]) -> tuple[str, str]:
    """The parts as one user turn and one answer, in the order of their kinds."""
    ordered = sorted(parts, key=lambda part: part.rank)  # stable: equals stay in order of merit
    questions = [part.question for part in ordered]
    answers = [tidy_sentence(part.answer) for part in ordered]
    if any(_blocky(answer) for answer in answers):
        # long answers stand under their question, or it could not be seen where one ends
        asked = [finish_question(question) for question in questions]
        body = "\n\n".join(f"**{q}**\n\n{a}" for q, a in zip(asked, answers, strict=True))
        return join_questions(questions, numbered=False), body
    numbered = (
        any(map(bare, answers))
        or len(ordered) >= NUMBERED_PARTS
        or bool(common_head(questions))
        or (len(ordered) > 2 and any(_elliptic(part) for part in ordered))
        or not _one_subject(ordered)
    )
    question = join_questions(questions, numbered=numbered)
    if numbered:
        flat = [f"{a[0].upper()}{a[1:]}" for a in answers]
        return question, "\n".join(f"{i}. {a}" for i, a in enumerate(flat, 1))
    return question, "\n\n".join(a if is_whole(a) or len(a.split()) < 4 else a + "." for a in answers)


def join_questions(questions: Sequence[str], *, numbered: bool) -> str:
    """Several short questions as one user turn: in a row, or numbered where their answers are bare."""
    head = common_head(questions) if numbered else ""
    if head:
        return head + "\n" + "\n".join(f"{i}. {q[len(head) :].strip()}" for i, q in enumerate(questions, 1))
    tidy = [finish_question(q) for q in questions]
    if numbered:
        return "\n".join(f"{i}. {q}" for i, q in enumerate(tidy, 1))
    first_word = tidy[1].split(" ", 1)[0]
    if (
        len(tidy) == 2
        and first_word in {"What", "How", "Why", "Who", "Where", "When", "Which"}
        and tidy[0].endswith("?")
    ):
        return f"{tidy[0]} And {tidy[1][0].lower()}{tidy[1][1:]}"
    return " ".join(tidy)


def common_head(questions: Sequence[str]) -> str:
    """The words up to a colon or a question mark that all begin with ("Identify which is a bird:"), or ""."""
    found = _HEAD.match(questions[0])
    head = found[0] if found else ""
    return head if all(q.startswith(head) and len(q) > len(head) + 1 for q in questions) else ""


def bare(answer: str) -> bool:
    """Whether an answer is but a few words, which need their question beside them."""
    return len(WORD.findall(answer)) < BARE_WORDS


def _blocky(answer: str) -> bool:
    return "\n" in answer or any(piece.kind is not Kind.PROSE for piece in segment(answer))


def _elliptic(part: Part) -> bool:
    """Whether an answer does not show by itself what it answers: "By magnitude, on the scale of 1935."."""
    return part.asker.question.stems.isdisjoint(content_words(part.answer))


def _one_subject(parts: Sequence[Part]) -> bool:
    stems = [part.asker.question.stems for part in parts]
    return all(any(one & other for other in stems if other is not one) for one in stems)
