"""The writer and the degrader that ask a language model. METHOD § 2 (2, 3). What comes back is checked, never trusted.

A written target must have its type's form and rest on its passage, claim by claim: one with a number or a name that the
passage lacks, or with too few of its words, is not grounded, and the target is dropped. A degraded variant must have
the form, the target's answer, and no number or name of its own.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from lm_mixup.distillers.extractive_words import content_words, numbers
from lm_mixup.distillers.facts import Keeper, facts_of
from lm_mixup.llm import loop
from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.mixture.degrade import Degraded, RuleDegrader
from lm_mixup.mixture.material import TYPE_OF, Exercise, Passage, Target, Variant
from lm_mixup.mixture.statements import spoken
from lm_mixup.mixture.write import ExtractiveWriter, Written, make_target
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.prompts import load
from lm_mixup.prompts.fence import fence_word, fenced
from lm_mixup.records import TaskType, digest
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para, parse, render

GROUNDED_SHARE = 0.6
"""Share of a claim's content words that its passage must have: the rest may be the writer's own wording."""
_NAME = re.compile(r"(?<=[\w,;:(\"“‘'–-] )[\"“‘'(]?[A-Z][\w’'-]*|(?<=[(\"“‘])[A-Z][\w’'-]*")
"""A word with a capital that does not begin a sentence."""
_FIRST = re.compile(r"(?:^|(?<=[.!?:] )|(?<=\n))[A-Z][\w’'-]+")
_VARIANT = re.compile(r"<variant>(.*?)</variant>", re.DOTALL)


class LLMWriter:
    """Asks a model for one target of each of ``types`` on each passage; items are taken as the sources give them.

    The passage is fenced off as data. ``max_tokens`` bounds an answer. Everything is asked at once: the model's adapter
    bounds what is in flight, and its ledger keeps what was answered.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        types: Sequence[TaskType] = tuple(TaskType),
        max_tokens: int = 700,
        grounded_share: float = GROUNDED_SHARE,
    ) -> None:
        self._llm = llm
        self._types = tuple(types)
        self._max_tokens = max_tokens
        self._grounded_share = grounded_share
        self._templates = {t: load(f"mixture_write_{t}") for t in self._types}

    @property
    def key(self) -> str:
        """A hash of the model, the prompts and the settings."""
        prompts = {str(t): template.digest for t, template in self._templates.items()}
        return "llm-" + digest([self._llm.key, prompts, self._max_tokens, self._grounded_share])[:16]

    def write(self, passages: Sequence[Passage], exercises: Sequence[Exercise]) -> Written:
        """The targets, passage by passage and type by type, then the items. Raises what the model's adapter raises."""
        asked = [(passage, task_type) for passage in passages for task_type in self._types]
        prompts = [self._prompt(passage, task_type) for passage, task_type in asked]
        out = Written(tried=len(asked))
        seen: set[str] = set()
        for (passage, task_type), said in zip(asked, loop.run(self._llm.complete(prompts)), strict=True):
            item = self._read(task_type, said, passage) if isinstance(said, Completion) else "no-answer"
            if isinstance(item, str):
                out.dropped[item] += 1
            elif (text := f"{task_type} {spoken(item)}") in seen:
                out.dropped["duplicate"] += 1
            else:
                seen.add(text)
                out.targets.append(make_target(item, passage))
        items = ExtractiveWriter().write((), exercises)
        out.targets += items.targets
        out.tried += items.tried
        out.dropped += items.dropped
        return out

    def _prompt(self, passage: Passage, task_type: TaskType) -> Prompt:
        fence = fence_word(digest(passage.text), [passage.text])
        messages = self._templates[task_type].render(
            fence=fence, passage=fenced(fence, "passage", passage.text), topic=passage.topic or "not given"
        )
        return Prompt(f"write/{passage.id}/{task_type}", messages, max_tokens=self._max_tokens)

    def _read(self, task_type: TaskType, said: Completion, passage: Passage) -> Item | str:
        found = parse_think_answer(said.text)
        item = parse(task_type, found.answer) if found else None
        if item is None:
            return "bad-form"
        if isinstance(item, Para):
            request = f"Write a paragraph on the following topic: {passage.topic}" if passage.topic else ""
            item = Para(" ".join(item.text.split()), request)
        return item if grounded(item, f"{passage.topic}. {passage.text}", self._grounded_share) else "not-grounded"


def grounded(item: Item, passage: str, share: float = GROUNDED_SHARE) -> bool:
    """Whether each claim of the item rests on the passage.

    A claim is a sentence or clause of what the item says to be true, as :func:`facts_of` parts it: its numbers and
    names must be the passage's, and ``share`` (0–1) of its content words. A false statement, and wrong options, need
    not; the reason and the right option must. A question must bring no numbers and names of its own.
    """
    claims = [fact.text for fact in facts_of(item) if fact.part == "body"]
    asked = ""
    match item:
        case QA(question, _):
            asked = question
        case CS(category, _):
            asked = category
        case TFQ(statement, True, _):
            claims += [fact.text for fact in facts_of(Para(statement))]
        case MCQ(question, options, answer, _):
            asked = question
            claims.append(options[answer])
    there = content_words(passage)
    return _brings_nothing(asked, there) and all(
        _brings_nothing(claim, there) and len((said := content_words(claim)) & there) >= share * len(said)
        for claim in claims
    )


def _brings_nothing(text: str, there: frozenset[str], *, first: bool = False) -> bool:
    """Whether each number and name of the text is among the words that are there.

    A capital at the beginning of a sentence says nothing; with ``first`` such a word counts as a name all the same,
    but for those that say nothing and adverbs ("Basically").
    """
    names = _NAME.findall(text)
    if first:
        names += [word for word in _FIRST.findall(text) if not word.endswith("ly")]
    return content_words(" ".join(names)) <= there and numbers(content_words(text)) <= there


class LLMDegrader:
    """Asks a model for the variants of a target; the rule-based degrader fills up what lacks, facts included.

    ``rules`` says how many variants there are to be, how many facts they must hold together, and what noise falls on
    them. ``told`` counts, after a call, what became of the model's answers and of the variants in them.
    """

    def __init__(self, llm: LLM, rules: RuleDegrader, *, seed: int = 0, most: int = 4, max_tokens: int = 1600) -> None:
        self._llm = llm
        self._rules = rules
        self._seed = seed
        self._most = most
        self._max_tokens = max_tokens
        self._template = load("mixture_degrade")
        self._told: Counter[str] = Counter()

    @property
    def key(self) -> str:
        """A hash of the model, the prompt and the settings."""
        parts = [self._llm.key, self._template.digest, self._rules.key, self._seed, self._most, self._max_tokens]
        return "llm-" + digest(parts)[:16]

    @property
    def told(self) -> Mapping[str, int]:
        """``answered`` and ``no-answer`` of the targets; ``taken``, ``bad-form``, ``copy``, ``wrong-answer`` and
        ``invents`` of the variants.
        """
        return dict(sorted(self._told.items()))

    def degrade_all(self, targets: Sequence[Target]) -> list[Degraded | None]:
        """Each target with its variants: up to ``most`` of the model's, in the place of as many of the rules'."""
        prompts = [self._prompt(target) for target in targets]
        answers = loop.run(self._llm.complete(prompts))
        self._told = Counter()
        out: list[Degraded | None] = []
        for target, said in zip(targets, answers, strict=True):
            made = self._rules.degrade(target)
            answered = isinstance(said, Completion)
            self._told["answered" if answered else "no-answer"] += 1
            out.append(self._with(made, said.text) if made and isinstance(said, Completion) else made)
        return out

    def _prompt(self, target: Target) -> Prompt:
        text = render(target.item)
        fence = fence_word(digest(text), [text])
        messages = self._template.render(
            fence=fence, sample=fenced(fence, "sample", text), count=str(self._most), task_type=str(target.task_type)
        )
        return Prompt(f"degrade/{target.id}", messages, max_tokens=self._max_tokens, temperature=0.7, seed=self._seed)

    def _with(self, made: Degraded, text: str) -> Degraded:
        target = made.target
        keeper = Keeper(facts_of(target.item))
        rng = random.Random(f"llm-noise:{self._seed}:{target.id}")
        said: dict[str, Variant] = {}
        for piece in _VARIANT.findall(text)[: self._most]:
            found = self._read(target.item, piece)
            if isinstance(found, str):
                self._told[found] += 1
                continue
            # the first stays clean, as the first of the rules does
            item, noise = self._rules.noised(found, rng) if said else (found, frozenset[str]())
            self._told["taken"] += 1
            said[render(item)] = Variant(item, ("llm",), keeper.held(render(item)), noise=tuple(sorted(noise)))
        # of the rules' variants those stay that hold what the model's lack, and as many as were wanted in all
        wanted = max(len(made.variants), len(said) + 1)
        lost = set(keeper.missing(list(said)))
        rest = sorted(made.variants, key=lambda v: -len(v.holds & lost))
        for variant in rest:
            if len(said) >= wanted and not variant.holds - frozenset[int]().union(*(v.holds for v in said.values())):
                continue
            said.setdefault(render(variant.item), variant)
        variants = list(said.values())
        random.Random(f"llm-order:{self._seed}:{target.id}").shuffle(variants)
        held = frozenset[int]().union(*(v.holds for v in variants))
        return Degraded(target, tuple(variants), len(held) / max(1, len(keeper.facts)))

    def _read(self, target: Item, piece: str) -> Item | str:
        """A variant as an item of the target's type, or why it is not taken."""
        piece = "\n".join(line for line in piece.strip().split("\n") if line.strip())
        item = parse(TYPE_OF[type(target)], piece)
        if item is None:
            return "bad-form"
        if render(item) == render(target):
            return "copy"
        match item, target:
            case TFQ(_, verdict, _), TFQ(_, right, _) if verdict != right:
                return "wrong-answer"
            case MCQ() as one, MCQ() as other if not _same_choice(one, other):
                return "wrong-answer"
            case Para(text, _), Para(_, request):
                item = Para(text, request)
        known = content_words(
            f"{target.request if isinstance(target, Para) else ''} {render(target)} True False Answer"
        )
        return item if _brings_nothing(render(item), known, first=True) else "invents"


def _same_choice(variant: MCQ, target: MCQ) -> bool:
    """Whether the variant calls right what the target does, be it shortened."""
    said, right = variant.options[variant.answer].casefold(), target.options[target.answer].casefold()
    return said in right or right in said
