"""A variant while it is being spoiled: the item's pieces, each knowing which fact it came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lm_mixup.distillers.facts import Fact
from lm_mixup.mixture.wording import without_conjunction
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para

ENDS = re.compile(r"[.!?…][\"'”’)\]]{0,3}$")
"""The end of a sentence."""
LEANS_BACK = re.compile(
    r"(?:which|who|whose|whom|where|that|with|including|such as|making|being|leading|resulting|as|after|before|when"
    r"|so|(?:and|or|but|nor|while) (?:\w+ing|also|then|not|later|even|in|to|with|for|as|by|more|most|perhaps))\b"
)
"""How a clause begins that is nothing without the one before it."""


@dataclass
class Draft:
    """The pieces of an item. Degraders change them in place.

    ``head`` is the question, statement or category ("" for a paragraph); ``options`` are the texts of the options,
    ``answer`` the index of the one said to be right; ``units`` are (number of the fact, text) of the body in order.
    ``spared`` are numbers of facts that must stay whole. ``blurred`` and ``wrong`` are numbers of facts that lost
    their details, or were made false. ``chat``: small letters begin sentences, too.
    """

    item: Item
    facts: Sequence[Fact]
    spared: frozenset[int]
    head: str = ""
    options: list[str] = field(default_factory=list)
    answer: int = 0
    verdict: bool = True
    units: list[tuple[int, str]] = field(default_factory=list)
    blurred: set[int] = field(default_factory=set)
    wrong: set[int] = field(default_factory=set)
    chat: bool = False

    @classmethod
    def of(cls, item: Item, facts: Sequence[Fact], spared: frozenset[int]) -> Draft:
        """The untouched pieces of ``item``."""
        draft = cls(item, facts, spared)
        draft.units = [(number, fact.text) for number, fact in enumerate(facts) if fact.part == "body"]
        match item:
            case QA(question, _):
                draft.head = question
            case MCQ(question, options, answer, _):
                draft.head, draft.options, draft.answer = question, list(options), answer
            case TFQ(statement, verdict, _):
                draft.head, draft.verdict = statement, verdict
            case CS(category, _):
                draft.head = category
        return draft

    @property
    def body(self) -> str:
        """The units as running text: a clause that has lost its neighbour is closed, or begun, as a sentence is."""
        out: list[str] = []
        for place, (number, text) in enumerate(self.units):
            follows = place + 1 < len(self.units) and self.units[place + 1][0] == number + 1
            after_own = place > 0 and self.units[place - 1][0] == number - 1
            if text.endswith((",", ";", ":")) and not follows:
                text = text.rstrip(",;:") + "."
            if not self.chat and text[:1].islower() and not after_own and (not out or ENDS.search(out[-1])):
                text = without_conjunction(text)
                text = text[0].upper() + text[1:]
            out.append(text)
        return " ".join(out)

    def build(self) -> Item | None:
        """The item that the pieces make; None where its form is no longer there."""
        body, head = self.body.strip(), self.head.strip()
        match self.item:
            case QA():
                return QA(head, body) if head and body else None
            case CS():
                return CS(head, body) if head and body else None
            case Para(_, request):
                return Para(body, request) if body else None
            case TFQ():
                return TFQ(head, self.verdict, body) if head else None
            case MCQ():
                whole = head and all(self.options) and len(self.options) >= 2
                return MCQ(head, tuple(self.options), self.answer, body) if whole else None
