"""The writer and the degrader that ask a language model. METHOD § 2 (2, 3). What comes back is checked, never trusted.

A written target must have its type's form and rest on its passage: a sentence with a number that the passage lacks, or
with too few of the passage's words, is not grounded, and the target is dropped. A degraded variant must have the form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from lm_mixup.distillers.extractive_words import content_words, numbers
from lm_mixup.distillers.facts import Keeper, facts_of
from lm_mixup.distillers.segments import split_sentences
from lm_mixup.llm import loop
from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.mixture.degrade import Degraded, RuleDegrader
from lm_mixup.mixture.material import Exercise, Passage, Target, Variant
from lm_mixup.mixture.statements import spoken
from lm_mixup.mixture.write import ExtractiveWriter, Written, make_target
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.prompts import load
from lm_mixup.prompts.fence import fence_word, fenced
from lm_mixup.records import TaskType, digest
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para, parse, render

GROUNDED_SHARE = 0.6
"""Share of a sentence's content words that its passage must have: the rest may be the writer's own wording."""
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
        return item if grounded(item, passage.text, self._grounded_share) else "not-grounded"


def grounded(item: Item, passage: str, share: float = GROUNDED_SHARE) -> bool:
    """Whether each sentence that the item claims to be true rests on the passage.

    A false statement, and wrong options, need not; the reason and the right option must.
    """
    match item:
        case QA(_, answer):
            claims = answer
        case CS(_, statement):
            claims = statement
        case Para(text, _):
            claims = text
        case TFQ(statement, verdict, reason):
            claims = f"{statement} {reason}" if verdict else reason
        case MCQ(_, options, answer, reason):
            claims = f"{options[answer]}. {reason}"
    there = content_words(passage)
    for sentence in split_sentences(claims):
        said = content_words(sentence)
        if not numbers(said) <= there or len(said & there) < share * len(said):
            return False
    return True


class LLMDegrader:
    """Asks a model for the variants of a target; the rule-based degrader fills up what lacks, facts included.

    ``rules`` says how many variants there are to be, and how many facts they must hold together.
    """

    def __init__(self, llm: LLM, rules: RuleDegrader, *, seed: int = 0, most: int = 4, max_tokens: int = 1600) -> None:
        self._llm = llm
        self._rules = rules
        self._seed = seed
        self._most = most
        self._max_tokens = max_tokens
        self._template = load("mixture_degrade")

    @property
    def key(self) -> str:
        """A hash of the model, the prompt and the settings."""
        parts = [self._llm.key, self._template.digest, self._rules.key, self._seed, self._most, self._max_tokens]
        return "llm-" + digest(parts)[:16]

    def degrade_all(self, targets: Sequence[Target]) -> list[Degraded | None]:
        """Each target with its variants: up to ``most`` of the model's, in the place of as many of the rules'."""
        prompts = [self._prompt(target) for target in targets]
        answers = loop.run(self._llm.complete(prompts))
        made = [self._rules.degrade(target) for target in targets]
        return [
            self._with(one, said.text) if one and isinstance(said, Completion) else one
            for one, said in zip(made, answers, strict=True)
        ]

    def _prompt(self, target: Target) -> Prompt:
        text = render(target.item)
        fence = fence_word(digest(text), [text])
        messages = self._template.render(
            fence=fence, sample=fenced(fence, "sample", text), count=str(self._most), task_type=str(target.task_type)
        )
        return Prompt(f"degrade/{target.id}", messages, max_tokens=self._max_tokens, temperature=0.7, seed=self._seed)

    def _with(self, made: Degraded, text: str) -> Degraded:
        target, output = made.target, render(made.target.item)
        keeper = Keeper(facts_of(target.item))
        said: dict[str, Variant] = {}
        for piece in _VARIANT.findall(text)[: self._most]:
            piece = "\n".join(line for line in piece.strip().split("\n") if line.strip())
            item = parse(target.task_type, piece)
            if item is None or render(item) == output:
                continue
            if isinstance(item, Para) and isinstance(target.item, Para):
                item = Para(item.text, target.item.request)
            holds = keeper.held(render(item))
            said[render(item)] = Variant(item, ("llm",), holds, holds)
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
