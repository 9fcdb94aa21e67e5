"""The five task types: their written form, and the way from a conversation to the form and back.

Forms are those of METHOD § 2 (LM-Mixup, MIXTURE)::

    qa    Q: … ⏎ A: …
    mcq   Q: … ⏎ A) … ⏎ B) … ⏎ C) … ⏎ D) … ⏎ Answer: B) …        (a reason may follow on the next lines)
    tfq   a statement ⏎ Answer: True | False                     (a reason may follow)
    cs    C: … ⏎ S: …
    para  free text

Parsing reads line by line and is linear in the length of the text, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from lm_mixup.records import Message, Sample, TaskType

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, slots=True)
class QA:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class MCQ:
    """A question, its options in order, the index of the right one, and the reason ("" if none)."""

    question: str
    options: tuple[str, ...]
    answer: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TFQ:
    """A statement, whether it is true, and the reason ("" if none)."""

    statement: str
    verdict: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CS:
    """A category (topic) and a statement about it."""

    category: str
    statement: str


@dataclass(frozen=True, slots=True)
class Para:
    """A paragraph, and the request that it answers ("" if none is known)."""

    text: str
    request: str = ""


Item = QA | MCQ | TFQ | CS | Para

TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "tfq": "True or false: {statement}",
        "cs": "Describe {category}.",
        "para": "Write a paragraph about the following: {topic}",
    }
)
"""User turns of the types whose form holds no question (METHOD § 6); a recipe can change them."""

# Quantifiers are possessive: two runs of white space side by side could share a long one in as many ways as it has
# characters. ``[^\S\n]`` is white space within a line.
_OPTION = re.compile(r"[^\S\n]{0,8}+\(?([A-J])[).:][^\S\n]++(\S.*+)")
_TWO_OPTIONS = re.compile(r"^[^\S\n]{0,8}+\(?A[).:][^\S\n]++\S.*+\n[^\S\n]{0,8}+\(?B[).:][^\S\n]++\S", re.MULTILINE)
_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)*+")
_ANSWER = re.compile(r"^\s{0,8}+(?:the\s++)?(?:correct\s++)?answer(?:\s++is)?\s*+:?\s*+(\S.*)$", re.IGNORECASE)
_ANSWER_CHARS = len("answer?")
"""A shorter line cannot state an answer."""
_LETTER = re.compile(r"^\(?([A-J])(?:[).:,]|\s|$)\s*(.*)$", re.DOTALL)
_VERDICT = re.compile(r"^(true|false)\b[\s.,;:!–—-]*(.*)$", re.IGNORECASE | re.DOTALL)
_TFQ_LEAD = re.compile(r"^\s{0,8}(?:true\s+or\s+false|true\s*/\s*false)\s*[:?.,-]?\s*", re.IGNORECASE)
_PARA_LEAD = re.compile(r"^\s{0,8}(?:please\s+)?write\s+(?:a|one|an?\s+\w+)\s+paragraph\b", re.IGNORECASE)


def render(item: Item) -> str:
    """The item in its task type's written form."""
    match item:
        case QA(question, answer):
            return f"Q: {question}\nA: {answer}"
        case MCQ(question, options, answer, reason):
            lines = [f"Q: {question}", *(f"{LETTERS[i]}) {option}" for i, option in enumerate(options))]
            lines.append(f"Answer: {LETTERS[answer]}) {options[answer]}")
            return "\n".join([*lines, reason] if reason else lines)
        case TFQ(statement, verdict, reason):
            return f"{statement}\nAnswer: {verdict}" + (f"\n{reason}" if reason else "")
        case CS(category, statement):
            return f"C: {category}\nS: {statement}"
        case Para(text, _):
            return text


def parse(task_type: TaskType, text: str) -> Item | None:
    """The item that ``text`` spells, or None where it does not have the task type's form. Linear time."""
    text = text.strip()
    if not text:
        return None
    match task_type:
        case TaskType.QA:
            pair = _two_labels(text, "Q:", "A:")
            return QA(*pair) if pair else None
        case TaskType.CS:
            pair = _two_labels(text, "C:", "S:")
            return CS(*pair) if pair else None
        case TaskType.MCQ:
            return _parse_mcq(text)
        case TaskType.TFQ:
            return _parse_tfq(text)
        case TaskType.PARA:
            return Para(text)


def to_messages(item: Item, templates: Mapping[str, str] = TEMPLATES) -> tuple[Message, ...]:
    """The item as one exchange of a user and an assistant (METHOD § 6). Braces in the item's text stay as they are."""
    match item:
        case QA(question, answer):
            pair = (question, answer)
        case MCQ(question, options, index, reason):
            listed = "\n".join(f"{LETTERS[i]}) {option}" for i, option in enumerate(options))
            line = f"{LETTERS[index]}) {options[index]}"
            pair = (f"{question}\n{listed}", f"{line}\n{reason}" if reason else line)
        case TFQ(statement, verdict, reason):
            pair = (_fill(templates["tfq"], "statement", statement), f"{verdict}. {reason}" if reason else str(verdict))
        case CS(category, statement):
            pair = (_fill(templates["cs"], "category", category), statement)
        case Para(text, request):
            pair = (request or _fill(templates["para"], "topic", _first_words(text)), text)
    return Message("user", pair[0]), Message("assistant", pair[1])


def from_sample(sample: Sample, templates: Mapping[str, str] = TEMPLATES) -> Item | None:
    """The item that a sample holds, by its task type; None where its text does not have that shape.

    Of several turns, ``qa`` takes everything before the last turn as the question and the last turn as the answer.
    """
    prompt, completion = sample.prompt.strip(), sample.completion.strip()
    match sample.task_type:
        case TaskType.QA:
            return QA(prompt, completion) if prompt and completion else None
        case TaskType.PARA:
            return Para(completion, prompt) if completion else None
        case TaskType.CS:
            head, tail = (part.strip() for part in templates["cs"].split("{category}", 1))
            category = prompt.removeprefix("C:").strip()
            if category.startswith(head) and category.endswith(tail) and len(category) > len(head) + len(tail):
                category = category[len(head) : len(category) - len(tail)].strip()
            return CS(category, completion.removeprefix("S:").strip()) if category and completion else None
        case TaskType.TFQ:
            verdict = _VERDICT.match(completion.removeprefix("Answer:").lstrip())
            statement = _TFQ_LEAD.sub("", prompt, count=1).strip()
            return TFQ(statement, verdict[1].lower() == "true", verdict[2].strip()) if verdict and statement else None
        case TaskType.MCQ:
            return _mcq_of(prompt, completion)


def detect(messages: Sequence[Message]) -> TaskType:
    """The task type of a pool row that does not name one: ``qa`` unless its form is plainly another (METHOD § 6)."""
    if len(messages) != 2 or messages[0].role != "user":
        return TaskType.QA
    prompt, completion = messages[0].content.strip(), messages[1].content.strip()
    if _mcq_of(prompt, completion) is not None:
        return TaskType.MCQ
    if _TFQ_LEAD.match(prompt) and _VERDICT.match(completion.removeprefix("Answer:").lstrip()):
        return TaskType.TFQ
    if prompt.startswith("C:") and completion.startswith("S:"):
        return TaskType.CS
    if _PARA_LEAD.match(prompt) and "\n\n" not in completion:
        return TaskType.PARA
    return TaskType.QA


def _fill(template: str, name: str, value: str) -> str:
    # not str.format: sample text may hold braces, and must never be read as a template
    return template.replace("{" + name + "}", value)


def _first_words(text: str, count: int = 12) -> str:
    words = text.split()
    return " ".join(words[:count]) + (" …" if len(words) > count else "")


def _two_labels(text: str, first: str, second: str) -> tuple[str, str] | None:
    if not text.startswith(first):
        return None
    head, label, tail = text.removeprefix(first).partition("\n" + second)
    head, tail = head.strip(), tail.strip()
    return (head, tail) if label and head and tail else None


def _options(text: str) -> tuple[int, tuple[str, ...], int] | None:
    """Where the first run of options A, B, C … begins, the options, and where it ends; None without at least two."""
    found = _TWO_OPTIONS.search(text)
    if not found:
        return None
    position, options = found.start(), list[str]()
    while len(options) < len(LETTERS):
        option = _OPTION.match(text, position)
        if not option or option[1] != LETTERS[len(options)]:
            break
        options.append(option[2].strip())
        position = min(len(text), option.end() + 1)
    return found.start(), tuple(options), position


def _choice(text: str, options: tuple[str, ...]) -> tuple[int, str] | None:
    """Index of the option that an answer names by letter or by its words, and the reason after it."""
    first, _, rest = text.strip().partition("\n")
    first = first.strip()
    letter = _LETTER.match(first)
    if letter and LETTERS.index(letter[1]) < len(options):
        index = LETTERS.index(letter[1])
        said = letter[2].strip()
        if said[: len(options[index])].casefold() == options[index].casefold():
            said = said[len(options[index]) :].lstrip(" .,;:–—-")
        return index, "\n".join(part for part in (said, rest.strip()) if part)
    bare = first.rstrip(".").casefold()
    for index, option in enumerate(options):
        if bare == option.rstrip(".").casefold():
            return index, rest.strip()
    return None


def _mcq_of(prompt: str, completion: str) -> MCQ | None:
    found = _options(prompt)
    if not found:
        return None
    start, options, _ = found
    question = prompt[:start].strip().removeprefix("Q:").strip()
    said = _ANSWER.match(completion.partition("\n")[0])
    rest = completion[said.start(1) :] if said else completion
    choice = _choice(rest, options)
    return MCQ(question, options, *choice) if question and choice else None


def _parse_mcq(text: str) -> MCQ | None:
    if not text.startswith("Q:"):
        return None
    found = _options(text)
    if not found:
        return None
    start, options, end = found
    blank = _BLANK_LINES.match(text, end)
    line, _, rest = text[blank.end() if blank else end :].partition("\n")
    said = _ANSWER.match(line)
    choice = _choice(f"{said[1]}\n{rest}", options) if said else None
    question = text[:start].removeprefix("Q:").strip()
    return MCQ(question, options, *choice) if question and choice else None


def _parse_tfq(text: str) -> TFQ | None:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if len(line) < _ANSWER_CHARS:
            continue
        said = _ANSWER.match(line)
        verdict = _VERDICT.match(said[1]) if said else None
        if verdict:
            statement = "\n".join(lines[:number]).strip()
            reason = "\n".join([verdict[2].strip(), *lines[number + 1 :]]).strip()
            return TFQ(statement, verdict[1].lower() == "true", reason) if statement else None
    return None
