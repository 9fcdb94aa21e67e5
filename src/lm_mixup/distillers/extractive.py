"""The extractive distiller: a cluster's best text, with what the others add woven in. It invents nothing.

It needs no model and no network; it is the embedded default, and the baseline that a distiller with a language model
must beat. What it does for each task type stands in ``docs/distillers/extractive.md``; the pieces are in
``extractive_text`` (words, clean-up), ``extractive_questions`` and ``extractive_fuse``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lm_mixup.distillers.extractive_clean import clean, tidy_sentence
from lm_mixup.distillers.extractive_members import ONE_SUBJECT, Meaning, Member, merit_of, read_member, split, variants
from lm_mixup.distillers.extractive_questions import (
    bare,
    best_wording,
    common_head,
    finish_question,
    join_questions,
    related,
    same_question,
)
from lm_mixup.distillers.extractive_rebuild import rebuild
from lm_mixup.distillers.extractive_units import Fused, overlap, verdict_only
from lm_mixup.distillers.extractive_weave import weave
from lm_mixup.distillers.extractive_whole import is_refusal
from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.records import Cluster, Distillate, Failure, TaskType, digest
from lm_mixup.task_types import CS, MCQ, QA, TEMPLATES, TFQ, Item, Para, to_messages
from lm_mixup.task_types import render as render_item

if TYPE_CHECKING:
    from lm_mixup.ports import Embedder

VERSION = "1"
"""Raised with every change that changes results: it is part of the key."""


_LETTER = re.compile(r"\([A-J]\)|\b[A-J]\)|\b[Oo]ptions? [A-J]\b|\b[B-HJ]\b")
LONG_QUESTION_CHARS = 300
"""A user turn of more characters is kept as the base has it."""
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
        max_parts: int = 3,
        max_part_chars: int = 700,
        max_question_chars: int = 160,
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
            base, same, different = split(members)
            for member in [base, *same] if same and not base.question.artefact else []:
                texts.update((unit.body, None) for unit in member.answer.units if unit.prose)
            if same or different:
                texts.update(
                    (m.question.text, None) for m in members if len(m.question.text) <= self.max_question_chars
                )
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
        base, same, different = split(members)
        voted = _outvoted(base, same)
        if voted is not None:
            base, same = voted, [m for m in (base, *same) if m is not voted]
        asker = _best_asker([base, *same])
        wording = asker.question.text
        others = [] if base.question.artefact else [m.answer for m in same]
        fused = weave(
            base.answer,
            others,
            base.question.stems,
            max_added=self.max_added,
            max_chars=self.max_answer_chars,
            veto=meaning.veto(base.question.text) if meaning else None,
        )
        question, answer = finish_question(wording) if base.question.asks else wording, tidy_sentence(fused.text)
        parts = self._parts(base, fused, different, meaning)
        if parts:
            asked = [base.question, *(m.question for m in parts)]
            answers = [answer, *(tidy_sentence(m.answer.text) for m in parts)]
            numbered = any(map(bare, answers)) or bool(common_head([q.text for q in asked]))
            question = join_questions([wording, *(m.question.text for m in parts)], numbered=numbered)
            answer = (
                "\n".join(f"{i}. {a[0].upper()}{a[1:]}" for i, a in enumerate(answers, 1))
                if numbered
                else "\n\n".join(answers)
            )
            for part in parts:
                fused.taken[part.number] += len(part.answer.units)
        used = {asker.number} | {number for number, count in fused.taken.items() if count > 0}
        return QA(question, answer), used, _think(base, fused, members, same, parts)

    def _parts(self, base: Member, fused: Fused, different: list[Member], meaning: Meaning | None) -> list[Member]:
        """The members with other questions that one user might have asked in the same breath."""
        if not self._can_be_part(base, len(fused.text)):
            return []
        parts: list[Member] = []
        for member in different:
            if len(parts) + 1 >= self.max_parts:
                break
            if not self._can_be_part(member, len(member.answer.text)):
                continue
            together = [base, *parts]
            stems = frozenset(member.answer.stems)
            if not related(base.question, member.question, (base.answer.stems, stems)):
                continue
            said = frozenset().union(*(one.answer.stems for one in together))
            if any(same_question(one.question, member.question, (one.answer.stems, stems)) for one in together):
                continue
            near = meaning.likeness(base.question.text, member.question.text) if meaning else None
            if near is not None and near < ONE_SUBJECT:
                continue
            if len(stems) > 3 and len(stems - said) < 0.4 * len(stems):
                continue
            parts.append(member)
        return parts

    def _can_be_part(self, member: Member, chars: int) -> bool:
        question = member.question
        return (
            chars <= self.max_part_chars
            and len(question.text) <= self.max_question_chars
            and "\n" not in question.text
            and question.asks
            and question.stands
            and verdict_only(member.answer.text) is None
            and not question.artefact
            and all(unit.prose for unit in member.answer.units)
            and "\n\n" not in member.answer.text
            and not is_refusal(member.answer.first)
        )

    def _fuse_para(self, members: list[Member]) -> tuple[Item, set[int], str]:
        base = members[0]
        same = [m for m in members[1:] if variants(base, m)]
        fused = rebuild([m.answer for m in (base, *same)], max_chars=self.max_answer_chars)
        item = Para(tidy_sentence(fused.text), base.question.text)
        return item, {base.number, *fused.taken}, _think(base, fused, members, same, [])

    def _fuse_cs(self, members: list[Member]) -> tuple[Item, set[int], str]:
        base = members[0]
        same = [m for m in members[1:] if variants(base, m)]
        fused = rebuild([m.answer for m in (base, *same)], max_chars=self.max_answer_chars)
        asker = min((base, *same), key=lambda m: m.question.text.islower())
        used = {asker.number, *fused.taken}
        return CS(asker.question.text, tidy_sentence(fused.text)), used, _think(base, fused, members, same, [])

    def _fuse_tfq(self, members: list[Member]) -> tuple[Item, set[int], str]:
        base, same, _ = split(members)
        voters = [base, *same]
        weights: Counter[bool] = Counter()
        for member in voters:
            assert isinstance(member.item, TFQ)
            weights[member.item.verdict] += 1
        assert isinstance(base.item, TFQ)
        truth = base.item.verdict if weights[True] == weights[False] else weights[True] > weights[False]
        agreed = [m for m in voters if isinstance(m.item, TFQ) and m.item.verdict == truth]
        lead = agreed[0]
        fused = self._reasons(agreed)
        asker = _best_asker(agreed)
        statement = asker.question.text
        used = {lead.number, asker.number} | {n for n, count in fused.taken.items() if count > 0}
        return TFQ(statement, truth, tidy_sentence(fused.text)), used, _think(lead, fused, members, agreed[1:], [])

    def _fuse_mcq(self, members: list[Member]) -> tuple[Item, set[int], str]:
        base, same, _ = split(members)
        voters = [base, *same]
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
        asker = _best_asker(agreed)
        item = MCQ(
            _without_options_label(asker.question.text), tuple(options), lead.item.answer, tidy_sentence(fused.text)
        )
        used = {lead.number, asker.number} | added_by | {n for n, count in fused.taken.items() if count > 0}
        return item, used, _think(lead, fused, members, agreed[1:], [])

    def _reasons(self, members: list[Member]) -> Fused:
        """The reasons of members that agree, fused; the first one's may be empty."""
        given = [m for m in members if len(m.answer.text.split()) >= REASON_WORDS]
        if not given:
            return Fused("")
        base, *others = given
        topic = base.question.stems
        return weave(
            base.answer, [m.answer for m in others], topic, max_added=self.max_added, max_chars=self.max_answer_chars
        )


# ------------------------------------------------------------------------------------------------------------ helpers


def _best_asker(members: list[Member]) -> Member:
    """The member whose wording of the question is the best formed; the first of equals.

    Only wordings with the base's own content words count, since its answer was given to those. Where the base's user
    turn is long it stays: it holds more than a question.
    """
    if len(members[0].question.text) > LONG_QUESTION_CHARS:
        return members[0]
    alike = [m for m in members if m.question.stems == members[0].question.stems]
    wording = best_wording([m.question.text for m in alike])
    return next(m for m in alike if m.question.text == wording)


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


def _think(base: Member, fused: Fused, members: list[Member], same: list[Member], parts: list[Member]) -> str:
    """What was done, in one or two sentences. Members are counted from 1, in the cluster's order."""
    if len(members) == 1 and not fused.unfit:
        return f"Member {base.number + 1} is the only one that can be used, and stands as it is."
    first = f"Member {base.number + 1} is the base"
    added = [(number, count) for number, count in sorted(fused.taken.items()) if number != base.number and count > 0]
    part_numbers = {m.number for m in parts}
    woven = [
        f"{count} {'sentence' if count == 1 else 'sentences'} of member {n + 1}"
        for n, count in added
        if n not in part_numbers
    ]
    if woven:
        first += "; it takes in " + ", ".join(woven)
    if parts:
        first += "; joined to it: the questions and answers of member " + ", ".join(str(m.number + 1) for m in parts)
    dropped = []
    if fused.repeats:
        dropped.append(f"{fused.repeats} repeated piece{'s' * (fused.repeats > 1)}")
    if fused.unfit:
        dropped.append(f"{fused.unfit} piece{'s' * (fused.unfit > 1)} unfit or off the topic")
    if fused.corrected:
        first += f"; {fused.corrected} of its claims went to the majority"
    taken_part = {m.number for m in same} | part_numbers | {base.number}
    asked = base.question.text
    for member in sorted(members, key=lambda m: m.number):
        if member.number not in taken_part:
            why = "another answer" if member.question.text == asked else "another question"
            dropped.append(f"member {member.number + 1} ({why})")
    return first + "." + (f" Left out: {'; '.join(dropped)}." if dropped else "")
