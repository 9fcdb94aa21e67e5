"""The nouns of MIXTURE on their way from a text to a row: passage, exercise, target, variant."""

from __future__ import annotations

from dataclasses import dataclass

from lm_mixup.records import Sample, TaskType
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para, to_messages

TYPE_OF: dict[type, TaskType] = {
    QA: TaskType.QA,
    MCQ: TaskType.MCQ,
    TFQ: TaskType.TFQ,
    CS: TaskType.CS,
    Para: TaskType.PARA,
}


@dataclass(frozen=True, slots=True)
class Passage:
    """A cleaned paragraph of an article.

    ``group`` names the article, the unit of the split. ``topic`` is what it is about ("" where that is not known);
    ``sentences`` are whole sentences in order; ``questions`` are (question, short answer) pairs on it.
    """

    id: str
    group: str
    source: str
    topic: str
    sentences: tuple[str, ...]
    questions: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)


@dataclass(frozen=True, slots=True)
class Exercise:
    """An item that a source gives as it is. ``passage`` is the text that the item rests on, as sentences."""

    id: str
    group: str
    source: str
    item: Item
    passage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A good sample, to be distilled from its variants.

    ``groups`` are the articles
    it rests on: one, or two after cross-topic synthesis. ``parts`` are the targets that a cross-topic one was made of.
    """

    id: str
    item: Item
    groups: tuple[str, ...]
    source: str
    topic: str = ""
    parts: tuple[Target, ...] = ()

    @property
    def task_type(self) -> TaskType:
        """The task type of the item."""
        return TYPE_OF[type(self.item)]

    @property
    def whole(self) -> tuple[Item, ...]:
        """The items whose facts are the target's: its own, or those of its parts."""
        return tuple(part.item for part in self.parts) or (self.item,)

    def as_sample(self) -> Sample:
        """The target as a sample, to be embedded and rated."""
        return sample_of(self.id, self.item, self.source)


@dataclass(frozen=True, slots=True)
class Variant:
    """A poor version of a target.

    ``kinds`` are the degraders it went through, in order; ``noise`` the kinds of surface noise in it. ``holds``
    are the numbers of the facts that its text holds; ``blurred`` those that lost details, ``wrong`` those that it
    states wrongly.
    """

    item: Item
    kinds: tuple[str, ...]
    holds: frozenset[int] = frozenset()
    blurred: frozenset[int] = frozenset()
    wrong: frozenset[int] = frozenset()
    noise: tuple[str, ...] = ()

    @property
    def kept(self) -> frozenset[int]:
        """The numbers of the facts that it holds and that nothing was done to."""
        return self.holds - self.wrong - self.blurred


def sample_of(id: str, item: Item, source: str = "") -> Sample:
    """An item as a sample of its task type."""
    return Sample(id, to_messages(item), source, TYPE_OF[type(item)])
