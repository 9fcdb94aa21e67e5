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
_BE = re.compile(r"^(is|are|was|were) (.+?)\?$", re.IGNORECASE)
_DOING = re.compile(r"^(can|could|will|would|should|may|might|must|do|does|did|has|have|had) (.+?)\?$", re.IGNORECASE)
# where the predicate of "is X …" begins, and the verbs after "can X …", "has X …": words that are hardly ever nouns, so
# that what stands before the first of them is the subject
_IS_WHAT = re.compile(
    r"(?:an?|(?:the|exactly the) same|(?:a )?part of|based (?:on|upon|in)|considered|located"
    r"|made (?:of|by|in|from|with|out)|supposed to|required"
    r"|allowed|related to|known|born|called|named|still|always|also|ever|never|currently|usually"
    r"|legal|illegal|available|affiliated with|owned by|similar to|different from|different than|safe|capable of"
    r"|possible|composed of|dedicated to|subject to|responsible for|used (?:to|in|for|as|by))\b",
    re.IGNORECASE,
)
_DOES_WHAT = re.compile(
    r"(?:be|been|have|had|get|gotten|become|know|known|want|eat|eaten|go|gone|come|take|taken|give|given|win|won"
    r"|understand|enjoy|survive|survived|exist|existed|appear|appeared|contain|require|include|believe|write|written"
    r"|wear|worn|carry|carried|speak|spoken|sing|sung|die|died|happen|happened|belong|allow|prevent|buy|bought|sell|sold"
    r"|beat|kill|killed|perform|performed|help|helped|lose|lost|choose|chosen|transmit|grow|grown|throw|thrown|fall|fallen|receive"
    r"|received|apply|applied|qualify|qualified|participate|participated|occur|occurred|remain|remained|follow|followed"
    r"|accept|accepted|consider|considered|attend|attended|publish|published|serve|served|provide|provided|ever|never"
    r"|make|made|meet|met|learn|learned|also|still|always|actually|typically|usually|really|hypothetically)\b",
    re.IGNORECASE,
)
_NO_SUBJECT = re.compile(
    r"\b(?:and|or|in|on|for|with|to|at|by|from|into|that|which|who|whose|where|when|than|if|as|like|after|before|during"
    r"|under|over|between|without|through)\b|[,;:\"]",
    re.IGNORECASE,
)
SUBJECT_WORDS = 6
"""A subject of more words is not taken for one."""
_ASKS = re.compile(r"\b(?:who|what|which|when|where|why|how|whose|whom)\b", re.IGNORECASE)
_SETS_THE_SCENE = re.compile(
    r"^(?:When|Where)\b(?! (?:is|are|was|were|do|does|did|can|could|will|would|should|may|might|must|has|have|had)\b)",
    re.IGNORECASE,
)
"""A clause before the main one ("When a fern reproduces, its offspring …"), no question."""


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
    if _ASKS.match(text) and not _SETS_THE_SCENE.match(text):
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

    "Is there such a thing?" becomes "There is such a thing.", "Can a snake eat a frog?" "A snake can eat a frog.", "Did
    England beat Belgium?" "England did beat Belgium."; where no rule is sure of the subject, the statement is about
    the answer ("The answer to the question “…” is yes.").
    """
    turned = None if _ASKS.search(question) else _turned(question)
    return sentence_case(turned) if turned else f'The answer to the question "{question}" is yes.', yes


def _turned(question: str) -> str | None:
    """The question with its subject before its verb; None where it is not plain where the subject ends."""
    simple = _INVERTED.match(question)
    if simple and simple[1].casefold() != "am":
        subject = "I" if simple[2].casefold() == "i" else simple[2].lower()
        return f"{subject} {simple[1].lower()} {simple[3]}"
    do = _DO.match(question)
    if do:
        return f"{do[2].lower()} {do[3]}"
    for asked, begins in ((_BE, _IS_WHAT), (_DOING, _DOES_WHAT)):
        found = asked.match(question)
        if not found:
            continue
        verb, rest = found[1].lower(), found[2]
        for word in re.finditer(r"(?<= )\S", rest):
            predicate = begins.match(rest, word.start())
            if not predicate:
                continue
            subject = rest[: word.start()].strip()
            # of "Is the cat in the hat a book?" the subject is not "the cat": a subject with more in it is left
            words = subject.casefold().split()
            if _NO_SUBJECT.search(subject) or len(words) > SUBJECT_WORDS:
                return None
            if words[-1] in ("a", "an", "the", "of", "to", "not") or words[0].startswith("any"):
                return None
            # "has ever won" is asked, "has won" is stated
            return f"{subject} {verb} {re.sub(r'^ever ', '', rest[word.start() :])}"
    return None
