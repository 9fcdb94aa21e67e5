"""Encyclopaedic text to clean, whole sentences: what the extraction of an article leaves behind is taken out here.

Known faults of dumps, each met in real paragraphs: editors' marks ("[citation needed]", pages as ".:2–10:79"), TeX
quotes (``…''), empty brackets where a template stood, headings glued to the sentence after them, without a space or
with one ("Early lifeAbraham Lincoln was born", "Medieval Europe The introduction of"), sentences glued to each other,
words lost with a template (two spaces in a row), sorting keys before numbers ("7003100000000000000♠1,000").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lm_mixup.distillers.segments import split_sentences

MIN_WORDS, MAX_WORDS = 4, 80
"""A sentence with fewer or more words is no sentence that can be taken as it is (a list item, a table row)."""

_EDITORS = re.compile(
    r"\s?\[(?:citation needed|update|note ?\d*|n ?\d+|nb ?\d+|[a-z]|\d{1,3}|who\?|when\?|which\?|where\?"
    r"|clarification needed|attribution needed|verification needed|dubious[^\]]{0,30}|page needed|date"
    r"|[a-z ]{2,30}\?)\]",
    re.IGNORECASE,
)
_PAGES = re.compile(r"(?<=[.,;)\"”]):\d{1,4}(?:[–-]\d{1,4})?(?::\d{1,4}(?:[–-]\d{1,4})?)*(?=\s|$)")
_SORTING_KEY = re.compile(r"\b\d{12,}♠")
_EMPTY = re.compile(r"\(\s{0,3}[;,:–-]{0,3}\s{0,3}\)|\[\s{0,3}\]|\(\s{0,3}(?:listen|help)[^)]{0,20}\)")
_SEAM = re.compile(r"[a-z\d)][.:;!?][\"”)]?[A-Z][a-z]|\)[A-Z][a-z]|\\textstyle")
"""Two sentences without a space between them, or what is left of a formula."""
_TITLED = re.compile(
    r"^((?:[A-Z][\w’'-]*|of|and|the|in|on|for|to|a)(?:,? [\w’'()-]+){0,6}?) ((?:The|In|On|At|As|Some|Whereas|When|While"
    r"|During|After|Before|With|According|For|If|It|He|She|They|This|These|Although|Since|By|From|Following|Many|Most"
    r"|Because|His|Her|Their) [a-z])"
)
"""A heading with a space, but no sign, between it and its sentence."""
_INITIALS = re.compile(r"\b([A-Z])\. (?=[A-Z]\.)")
_GLUE = re.compile(r"(?<=[a-z]{3}|[a-z]{2}\))(?=[A-Z][a-z]*\b)")
_GLUED_WORD = re.compile(r"[A-Z][\w'’-]*")
_HEADING_VERB = re.compile(r"[.,;:]|\b(?:is|was|are|were|has|had|have|be|been)\b")
_END = re.compile(r"(?<!\bv)(?<!\bvs)(?<!\bcf)[.!?][\"'”’)\]]{0,2}$")
_GOES_ON = re.compile(r"(?:\b(?:v|vs|cf)|–St)\.$")
"""What ends in an abbreviation that the splitting of sentences does not know: "Reynolds v." """
_TWICE = re.compile(r"^([A-Z]\w+) \1(?!\w)")
_WORD_LOST = re.compile(r"\b(?:the|an|of|called|named|as|by|is|was|with)[,.;](?=\s|$)|^\d+,\s")
_REFERENCE = re.compile(
    r"University Press|\bISBN\b|\bpp?\. ?\d|\(eds?\.\)|\bRetrieved\b|\bdoi:|^[^.]{0,80}\(\d{4}\)\.$"
)
_STRAY_HEADING = re.compile(
    r"^(?:Etymology|History|Overview|Background|Biography|Description|Plot|Synopsis|Early life|Origins?|Legacy|Career"
    r"|Geography|Demographics|Reception|Characteristics) (?=[A-Z])"
)
_START = re.compile(r"(?![A-Z]\.,)[\"“‘'(]?[A-Z0-9]")
_STARTERS = frozenset(
    [
        "the",
        "a",
        "an",
        "in",
        "on",
        "at",
        "he",
        "she",
        "it",
        "they",
        "his",
        "her",
        "its",
        "this",
        "these",
        "as",
        "during",
        "after",
        "before",
        "for",
        "by",
        "when",
        "while",
    ]
)
DANGLING = re.compile(
    r"^(?:He|She|It|They|His|Her|Its|Their|This|These|That|Those|Such|However|Also|Thus|Therefore|But|And|Then|Moreover"
    r"|Furthermore|Additionally|In addition|Similarly|Likewise|Consequently|Nevertheless|Nonetheless|Instead|Hence|Here"
    r"|There|Another|Other|Others|Both|One such|The (?:former|latter|same|other)|Accordingly|Alternatively|Secondly"
    r"|Thirdly|Afterwards?|Later|Meanwhile|Subsequently|Nor|In contrast|By contrast|On the other hand|For example"
    r"|For instance|For (?:this|that) reason|As a result|At (?:the|that) (?:same )?time|In particular|In other words"
    r"|As such"
    r"|(?:Most|Many|Some|All|None|Several|Each|Few|Two|Three) (?:of (?:them|these|those|which)|are|were|have|had))\b"
)
"""How a sentence begins that leans on the one before it."""
_FORWARD = re.compile(
    r"^(?:(?:Soon|Shortly|Even|Only|Just|Together|Later|Earlier) )?(?:In|On|At|By|For|From|With|After|Before|During"
    r"|Since|Until|Upon|Despite|Through|Under|Among|While|When|Although|Though|As|Because|If|Once|Where|To|Of|Like|Unlike"
    r"|Besides|Following|after|before|until|[A-Z][a-z]+ing)\b[^,.;A-Z\d]{0,60}?\b"
    r"(?:he|she|they|it|him|them|his|her|its|their|this|these|those|such(?! as))\b"
)
_LATE = re.compile(
    r"^[A-Z][^.;A-Z\d]{0,60}, (?:he|she|they|these|those|this|such(?! as))\b|^(?:\S+ ){1,4}(?:do|did|does) so\b"
    r"|^(?:In|By|On|During|Since|From|Until|After|Before) [^,.;]{0,30}\d{4}, (?:he|she|they|it)\b"
)
_UNNAMED = re.compile(
    r"^The (?:film|series|show|book|novel|program|programme|group|band|company|city|area|region|country|state|team"
    r"|album|song|game|station|episode|season|building|school|university|event|system|term|act|agreement|committee|court"
    r"|church|island|river|war|battle|king|queen|president|two|three|first|second|plot|story|character|author|document"
    r"|law|ruling|rule|name|word|process|method|couple|family|party|ship|tower|temple|town|village|article)"
    r" (?:is|are|was|were|has|have|had|can|could|will|would|may|must|does|did|also|then|first|features?|stars?|follows"
    r"|includes?|contains?|consists?|became|began|begins|won|tells|takes|took|uses?|[a-z]{3,}ed)\b"
)
"""A thing that only the sentence before can have named ("The film was …")."""


def leans(sentence: str) -> bool:
    """Whether a reader would have to know what came before: it begins with, or soon has, a word for something else."""
    return any(found.match(sentence) for found in (DANGLING, _FORWARD, _LATE, _UNNAMED))


def sentences_of(text: str) -> list[str]:
    """The whole, clean sentences of a paragraph in order; what is no sentence, or has lost a word, is left out."""
    text = (
        _SORTING_KEY.sub("", _PAGES.sub("", _EDITORS.sub("", text)))
        .replace("``", '"')
        .replace("''", '"')
        .replace("--", "–")
    )
    text = re.sub(r"[\u00a0\t]", " ", text)
    out: list[str] = []
    held = ""
    for piece in split_sentences(_INITIALS.sub(r"\1.", text)):
        piece = f"{held} {piece.strip()}".strip()
        held = piece if _GOES_ON.search(piece) else ""
        if held:
            continue
        sentence = _mended(piece, text)
        if sentence:
            out.append(sentence)
    return out


def independent(sentences: Sequence[str]) -> tuple[str, ...]:
    """The sentences from the first on that does not lean on what came before it."""
    for number, sentence in enumerate(sentences):
        if not leans(sentence):
            return tuple(sentences[number:])
    return ()


def _mended(sentence: str, whole: str) -> str | None:
    """The sentence, cut free of a heading glued to it; None where it is not whole."""
    glues = [found.start() for found in _GLUE.finditer(sentence)]
    if glues:
        heading, rest = sentence[: glues[-1]], sentence[glues[-1] :]
        word = _GLUED_WORD.match(rest)
        # "PowerPoint" is one word; "lifeAbraham" is two, for Abraham stands elsewhere, too
        known = word is not None and (
            word[0].lower() in _STARTERS or len(re.findall(rf"(?<!\w){re.escape(word[0])}(?!\w)", whole)) >= 1
        )
        if not known or _HEADING_VERB.search(heading):
            return None
        sentence = rest
    sentence = _STRAY_HEADING.sub("", _TWICE.sub(r"\1", sentence))
    titled = _TITLED.match(sentence)
    if (
        titled
        and not _HEADING_VERB.search(titled[1].replace(",", ""))
        and not titled[1].endswith(("'s", "’s", "words"))
    ):
        sentence = sentence[titled.start(2) :]
    if _SEAM.search(sentence):
        return None
    if "  " in sentence or _EMPTY.search(sentence) or "\n" in sentence or _WORD_LOST.search(sentence):
        return None
    if _REFERENCE.search(sentence) or _mostly_names(sentence):
        return None
    if not _START.match(sentence) or not _END.search(sentence):
        return None
    if not MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
        return None
    if sentence.count("(") != sentence.count(")") or sentence.count('"') % 2 or sentence.count("{"):
        return None
    return re.sub(r" (?=[.,;:!?](?:\s|$))", "", sentence)


def _mostly_names(sentence: str) -> bool:
    """Whether nearly all words that could be small are not: a list of titles or names, no sentence."""
    words = re.findall(r"[^\W\d_]{4,}", sentence)
    return len(words) >= 4 and sum(w[0].isupper() for w in words) > 0.75 * len(words)


_TITLE_LEAD = re.compile(r"^In [A-Z]?\w+ \w+, ")


def topic_of(title: str) -> str:
    """What an article is about, from a title that may be the head of its first sentence; "" where it says nothing."""
    title = _TITLE_LEAD.sub("", title.replace("_", " ").strip())
    title = re.sub(r"(?:, (?:officially|popularly|also|or|commonly)\b.*|,$)", "", title).strip()
    if re.search(r"\b(?:refers to|recognizes|is|was|are|were)\b", title) or title.lower() in {
        "this",
        "miscellaneous",
        "these",
        "a",
    }:
        return ""
    return re.sub(r"\s*\([^)]{0,40}\)$", "", title)


_DEFINES = re.compile(
    r"^(The |A |An )?((?:[\w'’.&-]+ ){0,5}?[\w'’.&-]+)(?: \([^()]{1,160}\)| or [a-z\"“][^,]{0,60})?,? "
    r"(?:is|are|was|were) (?:a|an|the|one|any|any of|used)\b"
)
_NO_TOPIC = re.compile(
    r"^(?:following|above|main|first|same|only|list|term|name|number|purpose|reason|result|question|answer|even|although"
    r"|while|because|since|when|if|during|after|before|for|with|from|under|another|some|most|all|many)\b|\b(?:is|are|was|were|has|have|had|which|that|who|there|this|it|he|she|they|in|on|at|as|by|to)\b",
    re.IGNORECASE,
)


def defined_topic(first_sentence: str) -> str:
    """What a first sentence of the form "X (…) is a …" defines; "" for any other sentence."""
    found = _DEFINES.match(first_sentence)
    if not found or _NO_TOPIC.search(found[2]) or found[2][:1].isdigit():
        return ""
    # "The Game" is a name; of "The spark plug" the article goes
    return f"The {found[2]}" if found[1] == "The " and found[2].istitle() else found[2]
