"""Step 1: from files to clean passages and items. METHOD § 2 (1).

A row is read by its fields, whatever file it stands in:

- ``text`` (with ``title`` and ``qas``, a list of question and answer, where there are any): a paragraph;
- ``question`` and ``choices`` with ``answer_index`` or ``answer``: a multiple-choice item;
- ``statement`` or ``question`` with ``answer`` true or false (with ``explanation`` or ``passage``): a true/false item;
- anything that :func:`lm_mixup.pool.read` knows (``messages``, prompt–completion, Alpaca …): an instruction row.

Files ending in ``.txt`` and ``.md`` are articles: the file's name, or its first heading, is the title.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.segments import Kind, segment
from lm_mixup.errors import PoolError
from lm_mixup.mixture.clean import defined_topic, independent, leans, sentences_of, topic_of
from lm_mixup.mixture.material import Exercise, Passage
from lm_mixup.mixture.statements import as_question, as_stem, sentence_case, spoken, statement_of, truecase
from lm_mixup.pool.containers import read_rows
from lm_mixup.pool.language import detect
from lm_mixup.pool.layout import LayoutFinder
from lm_mixup.pool.listing import expand
from lm_mixup.pool.rows import FileReport, RowProblem
from lm_mixup.records import UNKNOWN_LANGUAGE, Sample, digest
from lm_mixup.task_types import MCQ, TFQ, Item, from_sample, render
from lm_mixup.task_types import detect as detect_task_type

ARTICLE_ENDINGS = (".txt", ".md")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
_EMBEDDED_CHOICES = re.compile(r"^(?P<stem>.+?)\n\s*Choices:\s*\n(?P<options>.+?)(?:\n\s*Answer:\s*)?$", re.DOTALL)
_LETTERED = re.compile(r"^\s{0,4}\(?([A-J])[).:]\s+(\S.*)$")
SUPPORT_SHARE = 0.6
"""Below this share of a yes/no question's words, sentences hardly ever settle it; above, mostly (docs/mixture.md)."""
_META_REASON = re.compile(
    r"^(?:(?:the|this) (?:sentence|statement|claim|fact)?\s?(?:is|was) (?:true|false|correct|incorrect|not true)"
    r"(?:,? (?:because|since|as|due to the fact that|in that)|[,.;:])\s*|(?:true|false)[,.:;]\s*|because\s+)",
    re.IGNORECASE,
)

_ABOUT_ITSELF = re.compile(r"\b(?:I|[Mm]y (?:sentence|statement)|outlandish|labell?ed|(?:it|this|that) up)\b")
_SAYS_NOTHING = content_words(
    "true false untrue correct incorrect right wrong statement sentence claim assertion fact factual factually record "
    "information research web internet online google search searched evidence proof prove proven acceptable accepted "
    "common commonly knowledge known well verified verify check checked source sources history historical historically "
    "recorded records part lie made believe say says said exist exists existing easily simply anyone everyone someone "
    "people person find found look see seen reason because nothing completely absolutely totally definitely clearly "
    "public publicly documented article articles book books website confirm confirmed state stated sense possible "
    "impossible likely unlikely obviously obvious accurate inaccurate valid actual world widely generally sufficient "
    "via center anywhere"
)
"""Words of reasons that say no more than that the statement is true, or false."""


@dataclass
class Collected:
    """Passages and items in the order of the sources; ``rows`` read = kept + ``dropped`` by reason."""

    passages: list[Passage] = field(default_factory=list)
    exercises: list[Exercise] = field(default_factory=list)
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Rows that gave a passage or an item."""
        return len(self.passages) + len(self.exercises)


class _Unfit(Exception):
    """A row that cannot be used; the message is the reason."""


class Collector:
    """Reads sources. A paragraph has ``min_words`` to ``max_words`` words once it is clean; longer articles are cut
    into such paragraphs between sentences. An item has ``min_item_words`` to ``max_words``. ``languages`` are the codes
    let through (a text too short to tell passes).
    """

    def __init__(
        self,
        *,
        min_words: int = 30,
        max_words: int = 260,
        languages: Sequence[str] = ("en",),
        min_reason_words: int = 4,
        min_item_words: int = 5,
    ) -> None:
        self._min_words = min_words
        self._max_words = max_words
        self._languages = frozenset(languages)
        self._min_reason_words = min_reason_words
        self._min_item_words = min_item_words
        self._finder = LayoutFinder(None, {})

    def collect(self, paths: Sequence[str | Path], *, limit: int | None = None) -> Collected:
        """All of the sources; with ``limit``, at most so many rows of each file, so that every file has its share.

        Raises :class:`PoolError` for a path that is not there, or that holds nothing that can be read.
        """
        out = Collected()
        seen: set[str] = set()
        for row, name in self._rows(paths, limit, out):
            out.rows += 1
            try:
                found = self._read(row, name)
                if found.id in seen:
                    raise _Unfit("duplicate")
                seen.add(found.id)
            except _Unfit as unfit:
                out.dropped[str(unfit)] += 1
                continue
            if isinstance(found, Passage):
                out.passages.append(found)
            else:
                out.exercises.append(found)
        if not out.kept:
            raise PoolError(
                f"{', '.join(map(str, paths))}: no passage and no item found in {out.rows} rows "
                f"({dict(out.dropped)}); expected fields such as text, or question and choices, or .txt and .md files"
            )
        return out

    def _rows(
        self, paths: Sequence[str | Path], limit: int | None, out: Collected
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        for path in map(Path, paths):
            articles = (
                sorted(p for p in path.rglob("*") if p.suffix.lower() in ARTICLE_ENDINGS) if path.is_dir() else []
            )
            if path.suffix.lower() in ARTICLE_ENDINGS and path.is_file():
                articles = [path]
            for article in articles:
                paragraphs = list(self._paragraphs(article))
                yield from ((row, article.stem) for row in paragraphs[:limit])
            if articles and (path.is_file() or not _has_tables(path)):
                continue
            for file in expand(path, []):
                report = FileReport(file.name, file.container, file.path.stat().st_size)
                for number, raw in enumerate(read_rows(file.path, file.container, report)):
                    if limit is not None and number >= limit:
                        break
                    if raw.value is None:
                        out.rows += 1
                        out.dropped["unreadable"] += 1
                        continue
                    yield raw.value, file.source

    def _paragraphs(self, path: Path) -> Iterator[dict[str, Any]]:
        """An article's prose cut between sentences into paragraphs within the length band; code and tables are left."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PoolError(f"{path}: expected an article as UTF-8 text: {error}") from error
        heading = next((found[1] for line in text.splitlines() if (found := _HEADING.match(line))), "")
        title = heading or path.stem.replace("_", " ").replace("-", " ")
        held: list[str] = []
        words = 0
        for part in segment(text):
            length = len(part.body.split())
            ends = part.kind is not Kind.PROSE or words + length > self._max_words or "\n\n" in "".join(held[-1:])
            if held and ends and (part.kind is not Kind.PROSE or words >= self._min_words):
                yield {"title": title, "text": " ".join(h.strip() for h in held)}
                held, words = [], 0
            if part.kind is Kind.PROSE:
                held.append(part.text)
                words += length
        if held:
            yield {"title": title, "text": " ".join(h.strip() for h in held)}

    def _read(self, row: Mapping[str, Any], name: str) -> Passage | Exercise:
        source = row["source"] if isinstance(row.get("source"), str) and row["source"] else name
        if isinstance(row.get("question"), str) and isinstance(row.get("choices"), list):
            return self._multiple_choice(row, source)
        said = str(row.get("answer", "")).strip().casefold()
        if said in ("true", "false", "yes", "no") and isinstance(row.get("statement") or row.get("question"), str):
            return self._true_false(row, source, said in ("true", "yes"))
        if isinstance(row.get("text"), str):
            return self._passage(row, source)
        return self._instruction(row, source)

    def _passage(self, row: Mapping[str, Any], source: str) -> Passage:
        text = row["text"]
        self._check_language(text)
        title = row["title"] if isinstance(row.get("title"), str) else ""
        sentences = independent(sentences_of(text))
        words = sum(len(s.split()) for s in sentences)
        while sentences and words > self._max_words:
            words -= len(sentences[-1].split())
            sentences = sentences[:-1]
        if words < self._min_words or len(sentences) < 2:
            raise _Unfit("too-little-clean-text")
        topic = topic_of(title) if title else defined_topic(sentences[0])
        questions = []
        for pair in row.get("qas") or ():
            if (
                isinstance(pair, Mapping)
                and isinstance(pair.get("question"), str)
                and str(pair.get("answer", "")).strip()
            ):
                questions.append((as_question(truecase(pair["question"], text)), str(pair["answer"]).strip(" .,;(")))
        group = group_of(title, text)
        return Passage(f"p-{digest(' '.join(sentences))[:16]}", group, source, topic, sentences, tuple(questions))

    def _multiple_choice(self, row: Mapping[str, Any], source: str) -> Exercise:
        question, choices = row["question"].strip(), [str(choice).strip() for choice in row["choices"]]
        embedded = _EMBEDDED_CHOICES.match(question)
        if embedded:
            lettered = [
                found[2].strip() for line in embedded["options"].split("\n") if (found := _LETTERED.match(line))
            ]
            question, choices = embedded["stem"].strip(), lettered
        index = row.get("answer_index")
        if not isinstance(index, int):
            index = choices.index(str(row.get("answer"))) if str(row.get("answer")) in choices else -1
        if not 0 <= index < len(choices) or not 2 <= len(choices) <= 10:
            raise _Unfit("bad-choices")
        if len({c.casefold() for c in choices}) < len(choices) or not all(choices):
            raise _Unfit("equal-choices")
        self._check_language(question)
        reason = self._reason(row)
        item = MCQ(as_stem(question), tuple(choices), index, reason)
        return self._exercise(item, source, (), group_of("", question))

    def _true_false(self, row: Mapping[str, Any], source: str, verdict: bool) -> Exercise:
        passage: tuple[str, ...] = ()
        text = row["passage"] if isinstance(row.get("passage"), str) else ""
        if text:
            passage = tuple(sentences_of(text))
        if isinstance(row.get("statement"), str):
            statement = sentence_case(row["statement"])
            group = group_of("", statement)
        else:
            question = as_question(truecase(row["question"], text))
            statement, verdict = statement_of(question, verdict)
            group = group_of("", text or question)
        self._check_language(statement)
        if sum(map(str.isupper, statement)) > sum(map(str.islower, statement)):
            raise _Unfit("all-capitals")
        reason = self._reason(row)
        if text and not reason:
            reason = " ".join(supporting(row["question"], passage)) if isinstance(row.get("question"), str) else ""
            if not reason:
                raise _Unfit("passage-does-not-support")
        return self._exercise(TFQ(statement, verdict, reason), source, passage, group)

    def _instruction(self, row: Mapping[str, Any], source: str) -> Exercise:
        try:
            messages, _ = self._finder.find(dict(row)).messages(dict(row))
        except RowProblem as problem:
            raise _Unfit(problem.reason) from None
        sample = Sample("", messages, source, detect_task_type(messages))
        item = from_sample(sample)
        if item is None or sample.turns != 1:
            raise _Unfit("no-single-item")
        self._check_language(sample.text)
        return self._exercise(item, source, (), group_of("", sample.prompt))

    def _reason(self, row: Mapping[str, Any]) -> str:
        reason = row.get("explanation") or row.get("reason") or ""
        if not isinstance(reason, str):
            return ""
        reason = sentence_case(_META_REASON.sub("", reason.strip()))
        says = content_words(reason) - _SAYS_NOTHING and not _ABOUT_ITSELF.search(reason)
        return reason if says and len(reason.split()) >= self._min_reason_words else ""

    def _exercise(self, item: Item, source: str, passage: tuple[str, ...], group: str) -> Exercise:
        words = len(render(item).split())
        if not self._min_item_words <= words <= self._max_words:
            raise _Unfit("too-short" if words < self._min_item_words else "too-long")
        return Exercise(f"e-{digest(spoken(item))[:16]}", group, source, item, passage)

    def _check_language(self, text: str) -> None:
        if self._languages and detect(text) not in {*self._languages, UNKNOWN_LANGUAGE}:
            raise _Unfit("other-language")


def supporting(
    question: str, sentences: Sequence[str], answer: str = "", *, most: int = 3, share: float = SUPPORT_SHARE
) -> list[str]:
    """The sentences that bear on the question, in their order; none where no sentence does.

    The best holds the answer, if one is given, and shares most words with the question; it is joined by the sentence
    before it, if it leans on that, and by sentences near by that share a word with question or answer. Where no answer
    is given (yes or no), they must together have ``share`` of the question's content words.
    """
    asked = content_words(question)
    scores = [len(asked & content_words(s)) for s in sentences]
    able = [i for i, s in enumerate(sentences) if not answer or answer.casefold() in s.casefold()]
    if not able or not asked:
        return []
    best = max(able, key=lambda i: (scores[i], -i))
    if scores[best] < (1 if answer else min(2, len(asked))):
        return []
    taken = {best}
    first = best
    while leans(sentences[first]) and first and len(taken) < most:
        first -= 1
        taken.add(first)
    if leans(sentences[first]):
        return []
    near = sorted(i for i in range(len(sentences)) if i not in taken and i > best and scores[i])
    for i in near:
        if len(taken) >= most or i - max(taken) > 1:
            break
        taken.add(i)
    found = [sentences[i] for i in sorted(taken)]
    return found if answer or len(asked & content_words(" ".join(found))) >= share * len(asked) else []


def group_of(title: str, text: str) -> str:
    """The unit of the split: the article by its title, else the text (a passage, or an item) by its hash."""
    plain = re.sub(r"[\W_]+", " ", (title or text).casefold()).strip()
    return f"title:{plain}" if title else f"text:{digest(plain)[:16]}"


def _has_tables(folder: Path) -> bool:
    from lm_mixup.pool.containers import container_of

    return any(container_of(p) for p in folder.rglob("*") if p.is_file() and p.suffix.lower() not in ARTICLE_ENDINGS)
