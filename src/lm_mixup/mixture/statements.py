"""Questions and statements as sources spell them, to questions and statements that read well."""

from __future__ import annotations

import re

from lm_mixup.task_types import Item, render

_WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_INVERTED = re.compile(
    r"^(is|are|was|were|can|could|will|would|should|may|might|must|has|have|had|am) (there|it|you|we|they|he|she|i|this"
    r"|that) (.+?)\?$",
    re.IGNORECASE,
)
_DO = re.compile(r"^(do) (you|we|they|i) (.+?)\?$", re.IGNORECASE)
_ASKS = re.compile(r"\b(?:who|what|which|when|where|why|how|whose|whom)\b", re.IGNORECASE)


def spoken(item: Item) -> str:
    """The item's text with case and signs gone: what two copies of an item share."""
    return re.sub(r"[\W_]+", " ", render(item).casefold()).strip()


def sentence_case(text: str) -> str:
    """The text with a capital at its beginning and an end sign at its end; inner white space single."""
    text = re.sub(r"\s+", " ", text.replace("``", '"').replace("''", '"')).strip().strip("*").strip()
    text = re.sub(r" (?=[.,;:!?](?:\s|$))", "", text)
    if not text:
        return ""
    text = re.sub(r"(?<![\w'’.-])i(?=['’ ])", "I", text[0].upper() + text[1:])
    return text if re.search(r"[.!?…][\"'”’)]{0,2}$", text) else text.rstrip(",;:-– ") + "."


def as_question(text: str) -> str:
    """A question with a capital and one question mark."""
    text = re.sub(r"\s+", " ", text).strip().rstrip("?.!, ")
    return text[:1].upper() + text[1:] + "?"


def as_stem(text: str) -> str:
    """The question of a multiple-choice item; one that its options go on with is asked as such."""
    text = re.sub(r"\s+", " ", text.replace("``", '"').replace("''", '"')).strip()
    text = text[:1].upper() + text[1:]
    if text.endswith(("?", ".", "!", ":", '?"', '."')):
        return text
    if text.endswith("__") or "___" in text:
        return f"Which option fills the gap? {text}"
    if _ASKS.match(text):
        return text + "?"
    return f'Which option completes the sentence "{text} …"?'


def truecase(question: str, passage: str) -> str:
    """A question written in small letters, with the capitals that its words always have inside the passage.

    A question that has capitals after its first letter is left as it is.
    """
    if not passage or any(c.isupper() for c in question[1:]):
        return question
    forms: dict[str, set[str]] = {}
    for found in _WORD.finditer(passage):
        before = passage[: found.start()].rstrip(" \"'“‘(`")
        starts = not before or before[-1] in ".!?:"
        # at the beginning of a sentence a capital says nothing
        if not starts or found[0][1:] != found[0][1:].lower():
            forms.setdefault(found[0].casefold(), set()).add(found[0])

    def cased(found: re.Match[str]) -> str:
        known = forms.get(found[0].casefold(), set())
        return next(iter(known)) if len(known) == 1 else ("I" if found[0] == "i" else found[0])

    return _WORD.sub(cased, question)


def statement_of(question: str, yes: bool) -> tuple[str, bool]:
    """A statement to be called true or false, from a yes/no question and its answer; and its verdict.

    "Is there such a thing?" becomes "There is such a thing."; where no rule is sure of the subject, the statement is
    about the answer ("The answer to the question “…” is yes.").
    """
    simple = _INVERTED.match(question)
    if simple and simple[1].casefold() != "am" and not _ASKS.search(question):
        subject = "I" if simple[2].casefold() == "i" else simple[2].lower()
        return sentence_case(f"{subject} {simple[1].lower()} {simple[3]}"), yes
    do = _DO.match(question)
    if do and not _ASKS.search(question):
        return sentence_case(f"{do[2].lower()} {do[3]}"), yes
    return f'The answer to the question "{question}" is yes.', yes
