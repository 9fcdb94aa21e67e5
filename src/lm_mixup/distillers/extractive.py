"""The extractive distiller: a cluster's best text, with what the others add woven in. It invents nothing.

It needs no model and no network; it is the embedded default where no model is asked, and what a distiller with a
language model must beat. What it does for each task type stands in ``docs/distillers/extractive.md``; the pieces are in
``extractive_text`` (words, clean-up), ``extractive_questions`` and ``extractive_fuse``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lm_mixup.distillers.extractive_clean import clean, tidy_sentence
from lm_mixup.distillers.extractive_explain import explain
from lm_mixup.distillers.extractive_join import PART_NEW, best_asker, can_be_part, compose, part_of
from lm_mixup.distillers.extractive_members import (
    ONE_SUBJECT,
    Meaning,
    Member,
    alike,
    grouped,
    merit_of,
    read_member,
    variants,
)
from lm_mixup.distillers.extractive_questions import finish_question, related
from lm_mixup.distillers.extractive_rebuild import rebuild
from lm_mixup.distillers.extractive_units import Fused, overlap
from lm_mixup.distillers.extractive_weave import weave
from lm_mixup.distillers.extractive_whole import is_refusal
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.records import Cluster, Distillate, Failure, TaskType, digest
from lm_mixup.task_types import CS, MCQ, QA, TEMPLATES, TFQ, Item, Para, to_messages
from lm_mixup.task_types import render as render_item

if TYPE_CHECKING:
    from lm_mixup.ports import Embedder

VERSION = "2"
"""Raised with every change that changes results: it is part of the key."""


_LETTER = re.compile(r"\([A-J]\)|\b[A-J]\)|\b[Oo]ptions? [A-J]\b|\b[B-HJ]\b")
BASES_TRIED = 4
"""Where the best member fuses with none, so many of the next are tried as the base …"""
BASE_MARGIN = 2.0
"""… whose merit is no further below: a fusion of what belongs together is worth more than the best row alone."""
REASON_WORDS = 3
"""A reason of fewer words (a letter left over, "Yes.") is none."""


class ExtractiveDistiller:
    """Fuses each cluster by extraction.

    Args:
        embedder: where given, a sentence that would be woven in is left out when it paraphrases one that is in, or is
            far from the question. Costs one embedding a candidate sentence; see the docs for what it buys.
        templates: the user turns of the types whose form has no question (METHOD § 6).
        max_answer_chars: an answer does not grow beyond this; an answer that is longer by itself stays as it is.
        max_added: so many sentences or blocks of other members at most are woven into a base.
        max_parts: so many different questions at most are joined into one.
        max_part_chars: only questions whose answers are no longer than this are joined …
        max_question_chars: … and that are no longer than this themselves.
        max_options: a multiple-choice question does not grow beyond so many options.
    """

    def __init__(
        self,
        *,
        embedder: Embedder | None = None,
        templates: Mapping[str, str] = TEMPLATES,
        max_answer_chars: int = 3000,
        max_added: int = 6,
        max_parts: int = 5,
        max_part_chars: int = 1200,
        max_question_chars: int = 200,
        max_options: int = 4,
    ) -> None:
        self.templates = dict(templates)
        self.max_answer_chars = max_answer_chars
        self.max_added = max_added
        self.max_parts = max_parts
        self.max_part_chars = max_part_chars
        self.max_question_chars = max_question_chars
        self.max_options = max_options
        self._embedder = embedder

    @property
    def key(self) -> str:
        """Version, settings and embedder, as ``extractive-VERSION-DIGEST``."""
        settings = {
            "templates": self.templates,
            "answer": [self.max_answer_chars, self.max_added],
            "parts": [self.max_parts, self.max_part_chars, self.max_question_chars],
            "options": self.max_options,
            "embedder": self._embedder.key if self._embedder else None,
        }  # fmt: skip
        return f"extractive-{VERSION}-{digest(settings)[:12]}"

    def distill(self, clusters: Sequence[Cluster]) -> list[Distillate | Failure]:
        """One distillate a cluster, in order; a failure where no member holds anything that can be used."""
        read = [self._read(cluster) for cluster in clusters]
        meaning = self._meaning(read)
        return [self._distill_one(cluster, members, meaning) for cluster, members in zip(clusters, read, strict=True)]

    # ------------------------------------------------------------------------------------------------- one cluster

    def _distill_one(self, cluster: Cluster, members: list[Member], meaning: Meaning | None) -> Distillate | Failure:
        if not members:
            reason = "nothing-usable" if cluster.samples else "empty-cluster"
            detail = f"none of the {len(cluster.samples)} members holds a question with a whole answer"
            return Failure(cluster.id, "distill", reason, detail)
        item, used, think = self._fuse(cluster.task_type, members, meaning)
        ids = cluster.source_ids
        return Distillate(
            id=cluster.id,
            cluster=cluster.id,
            task_type=cluster.task_type,
            language=cluster.language,
            source=cluster.source,
            source_ids=ids,
            used_ids=tuple(ids[i] for i in sorted(used)),
            answer=render_item(item),
            messages=to_messages(item, self.templates),
            think=think,
        )

    def _meaning(self, read: Sequence[list[Member]]) -> Meaning | None:
        """The vectors of all sentences and questions that a decision may hang on, embedded in one call."""
        if self._embedder is None:
            return None
        texts: dict[str, None] = {}
        for members in read:
            if len(members) < 2:
                continue
            for member in members:
                texts.update((unit.body, None) for unit in member.answer.units if unit.prose)
                if len(member.question.text) <= self.max_question_chars:
                    texts[member.question.text] = None
        vectors = self._embedder.embed(list(texts)) if texts else ()
        return Meaning(dict(zip(texts, vectors, strict=True)))

    def _read(self, cluster: Cluster) -> list[Member]:
        """The usable members, best first: by merit, then by content hash (so that their order in the "
        "cluster is no matter).
        """
        members = []
        for number, (sample, rating) in enumerate(zip(cluster.samples, cluster.ratings, strict=True)):
            member = read_member(cluster.task_type, sample, number, rating, self.templates)
            if member is not None:
                members.append(member)
        for member in members:
            member.merit = merit_of(member, members)
        return sorted(members, key=lambda m: (-m.merit, m.sample.digest, m.number))

    def _fuse(self, task_type: TaskType, members: list[Member], meaning: Meaning | None) -> tuple[Item, set[int], str]:
        match task_type:
            case TaskType.MCQ:
                return self._fuse_mcq(members)
            case TaskType.TFQ:
                return self._fuse_tfq(members)
            case TaskType.CS:
                return self._fuse_cs(members)
            case TaskType.PARA:
                return self._fuse_para(members)
            case TaskType.QA:
                return self._fuse_qa(members, meaning)

    # -------------------------------------------------------------------------------------------------- task types

    def _fuse_qa(self, members: list[Member], meaning: Meaning | None) -> tuple[Item, set[int], str]:
        best: tuple[Item, set[int], str] | None = None
        for base in members[:BASES_TRIED]:
            if best is not None and (
                is_refusal(base.answer.first) or base.merit < members[0].merit - BASE_MARGIN or alike(members[0], base)
            ):
                continue
            fusion = self._fuse_around(base, members, meaning)
            if best is None or len(fusion[1]) > len(best[1]) == 1:
                best = fusion
            if len(best[1]) > 1:
                break
        assert best is not None
        return best

    def _fuse_around(self, base: Member, members: list[Member], meaning: Meaning | None) -> tuple[Item, set[int], str]:
        """The fusion with one member as the base: its group woven, and the groups of related questions joined."""
        groups = grouped(members, base)
        base, same, fused = self._woven(groups[0], meaning)
        first = part_of([base, *same], fused)
        chosen = [first]
        for (lead, *voices), others in self._related(base, fused, groups[1:], meaning):
            same = [*same, *voices]
            chosen.append(part_of([lead, *voices], others))
            fused.taken.update(others.taken)
            fused.taken[chosen[-1].asker.number] += 1
        if len(chosen) > 1:
            question, answer = compose(chosen)
        else:
            question = finish_question(first.question) if base.question.asks else first.question
            answer = tidy_sentence(first.answer)
        used = {first.asker.number} | {number for number, count in fused.taken.items() if count > 0}
        parts = [part.asker for part in chosen[1:]]
        return QA(question, answer), used, explain(base, fused, members, same, parts)

    def _woven(self, group: list[Member], meaning: Meaning | None) -> tuple[Member, list[Member], Fused]:
        """The base of a group of members that ask the same, the others, and what their answers give together."""
        base, same = group[0], group[1:]
        voted = _outvoted(base, same)
        if voted is not None:
            base, same = voted, [m for m in group if m is not voted]
        fused = weave(
            base.answer,
            [] if base.question.artefact else [m.answer for m in same],
            base.question.stems,
            max_added=self.max_added,
            max_chars=self.max_answer_chars,
            veto=meaning.veto(base.question.text) if meaning else None,
            subject=base.question.subject,
        )
        return base, same, fused

    def _related(
        self, base: Member, fused: Fused, groups: list[list[Member]], meaning: Meaning | None
    ) -> list[tuple[list[Member], Fused]]:
        """The groups with other questions that one user might have asked in the same breath, woven."""
        if not self._can_be_part(base, fused.text):
            return []
        parts: list[tuple[list[Member], Fused]] = []
        room = self.max_answer_chars - len(fused.text)
        said = content_words(fused.text)
        for group in groups:
            lead, same, woven = self._woven(group, meaning)
            stems = content_words(woven.text)
            if len(parts) + 1 >= self.max_parts:
                break
            if len(woven.text) > room or not self._can_be_part(lead, woven.text):
                continue
            if not related(base.question, lead.question, (base.answer.stems, stems)):
                continue
            near = meaning.likeness(base.question.text, lead.question.text) if meaning else None
            if near is not None and near < ONE_SUBJECT:
                continue
            if len(stems) > 3 and len(stems - said) < PART_NEW * len(stems):
                continue
            parts.append(([lead, *same], woven))
            said |= stems
            room -= len(woven.text)
        return parts

    def _can_be_part(self, member: Member, answer: str) -> bool:
        return can_be_part(member, answer, max_chars=self.max_part_chars, max_question_chars=self.max_question_chars)

    def _fuse_para(self, members: list[Member]) -> tuple[Item, set[int], str]:
        base = members[0]
        same = [m for m in members[1:] if variants(base, m)]
        fused = rebuild(
            [m.answer for m in (base, *same)], max_chars=self.max_answer_chars, subject=base.question.subject
        )
        item = Para(tidy_sentence(fused.text), base.question.text)
        return item, {base.number, *fused.taken}, explain(base, fused, members, same, [])

    def _fuse_cs(self, members: list[Member]) -> tuple[Item, set[int], str]:
        base = members[0]
        same = [m for m in members[1:] if variants(base, m)]
        fused = rebuild([m.answer for m in (base, *same)], max_chars=self.max_answer_chars, subject=base.question.stems)
        asker = min((base, *same), key=lambda m: m.question.text.islower())
        used = {asker.number, *fused.taken}
        return CS(asker.question.text, tidy_sentence(fused.text)), used, explain(base, fused, members, same, [])

    def _fuse_tfq(self, members: list[Member]) -> tuple[Item, set[int], str]:
        voters = grouped(members, members[0])[0]
        base = voters[0]
        weights: Counter[bool] = Counter()
        for member in voters:
            assert isinstance(member.item, TFQ)
            weights[member.item.verdict] += 1
        assert isinstance(base.item, TFQ)
        truth = base.item.verdict if weights[True] == weights[False] else weights[True] > weights[False]
        agreed = [m for m in voters if isinstance(m.item, TFQ) and m.item.verdict == truth]
        lead = agreed[0]
        fused = self._reasons(agreed)
        asker = best_asker(agreed)
        statement = asker.question.text
        used = {lead.number, asker.number} | {n for n, count in fused.taken.items() if count > 0}
        return TFQ(statement, truth, tidy_sentence(fused.text)), used, explain(lead, fused, members, agreed[1:], [])

    def _fuse_mcq(self, members: list[Member]) -> tuple[Item, set[int], str]:
        voters = grouped(members, members[0])[0]
        votes: Counter[str] = Counter()
        merit: dict[str, float] = {}
        for member in voters:
            assert isinstance(member.item, MCQ)
            said = _folded(member.item.options[member.item.answer])
            votes[said] += 1
            merit[said] = merit.get(said, 0.0) + member.merit
        right = max(votes, key=lambda text: (votes[text], merit[text], text))
        agreed = [m for m in voters if isinstance(m.item, MCQ) and _folded(m.item.options[m.item.answer]) == right]
        lead = agreed[0]
        assert isinstance(lead.item, MCQ)
        options = [_bare_option(clean(option)) or option for option in lead.item.options]
        added_by: set[int] = set()
        closed = any(_folded(option).startswith(("all of", "none of", "both")) for option in options)
        for member in voters:
            assert isinstance(member.item, MCQ)
            for option in member.item.options:
                if closed or len(options) >= self.max_options:
                    break
                if all(
                    overlap(content_words(option), content_words(one)) < 0.5 and _folded(option) != _folded(one)
                    for one in options
                ):
                    options.append(_bare_option(clean(option)) or option)
                    added_by.add(member.number)
        # a reason that names options by letter holds only for the order that it was written for
        reasons = [
            m
            for m in agreed
            if isinstance(m.item, MCQ) and (m.item.options == lead.item.options or not _LETTER.search(m.answer.text))
        ]
        fused = self._reasons(reasons)
        asker = best_asker(agreed)
        item = MCQ(
            _without_options_label(asker.question.text), tuple(options), lead.item.answer, tidy_sentence(fused.text)
        )
        used = {lead.number, asker.number} | added_by | {n for n, count in fused.taken.items() if count > 0}
        return item, used, explain(lead, fused, members, agreed[1:], [])

    def _reasons(self, members: list[Member]) -> Fused:
        """The reasons of members that agree, fused; the first one's may be empty."""
        given = [m for m in members if len(m.answer.text.split()) >= REASON_WORDS]
        if not given:
            return Fused("")
        base, *others = given
        topic = base.question.stems
        return weave(
            base.answer,
            [m.answer for m in others],
            topic,
            max_added=self.max_added,
            max_chars=self.max_answer_chars,
            reasons=True,
        )


# ------------------------------------------------------------------------------------------------------------ helpers


def _outvoted(base: Member, same: list[Member]) -> Member | None:
    """The member that should be the base where most short answers to the same question agree, and not with the base."""
    short = [m for m in (base, *same) if len(m.answer.stems) <= 4 and len(m.answer.units) == 1]
    votes = Counter(_folded(m.answer.text) for m in short)
    if not votes:
        return None
    said, count = votes.most_common(1)[0]
    if count < 2 or _folded(base.answer.text) == said or base not in short:
        return None
    return next(m for m in short if _folded(m.answer.text) == said)


def _folded(text: str) -> str:
    return " ".join(text.casefold().strip(" .,;:!?\"'()").split())


def _bare_option(option: str) -> str:
    """An option without a second letter before it ("A) 46" within option A)."""
    head, mark, tail = option.partition(")")
    return tail.strip() if mark and len(head) == 1 and head.isupper() and tail.strip() else option


def _without_options_label(question: str) -> str:
    lines = question.rstrip().split("\n")
    if len(lines) > 1 and lines[-1].strip().casefold() in {
        "options:",
        "choices:",
        "answer choices:",
        "options",
        "choices",
    }:
        lines.pop()
    return "\n".join(lines).strip()
