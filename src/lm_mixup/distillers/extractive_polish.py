"""Small mends of a sentence, in English only: apostrophes that were left out, hedges, capitals, marks in a row."""

from __future__ import annotations

import re

from lm_mixup.distillers.extractive_words import FUNCTION_WORDS, STOP_WORDS, WORD, word_set

_CONTRACTIONS = {
    full.replace("'", ""): full
    for full in word_set(
        "that's what's there's don't doesn't didn't isn't aren't wasn't weren't can't couldn't shouldn't wouldn't"
        " haven't hasn't hadn't you're they're you've they've we've"
    )
}
_BARE = re.compile(rf"\b(?:{'|'.join(sorted(_CONTRACTIONS))})\b", re.IGNORECASE)
_ITS = re.compile(r"\b(its)(?= (?:a|an|the|not|how|what|because|when|called|already|just)\b)", re.IGNORECASE)
_ITS_SO = re.compile(r"(?<=\bwhy )(its)(?= \w+[.!]?$)", re.IGNORECASE)
_ENGLISH = word_set("the and you of they with your this it is are why nobody can how what from make for not its")
_HEDGE = re.compile(
    r"^(?:(?:well|basically|actually|honestly|so|um|hmm|imo|imho|afaik|in my opinion),\s+"
    r"|i (?:think|guess|believe)(?: that)?\s+)+(?=[A-Za-z]{2})",
    re.IGNORECASE,
)
_LAUGH = re.compile(r"[\s,]+(?:lol|haha|lmao|imo|imho|tbh|idk)(?=[.!?\s]*$)", re.IGNORECASE)
_MARKS = re.compile(r"(?<=\w)(?:!{2,}|\?{2,}|\.\.(?!\.)|(?<=[\"'”’])\.\.)(?=\s|$)")
_AFTER_VERDICT = re.compile(r"(?<=^(?i:yes)[.!] )[a-z]|(?<=^(?i:no)[.!] )[a-z]")
_SUSPECT = re.compile(
    rf"!!|\?\?|\.\.|\b(?:its|lol|haha|lmao|tbh|{'|'.join(sorted(_CONTRACTIONS))})\b"
    r"|^(?:well|basically|actually|honestly|so|um|hmm|imo|imho|afaik|i think|i guess|i believe|in my opinion|yes|no)\b"
    r"|\b(?:imo|imho|idk)\W*$",
    re.IGNORECASE,
)
"""What a sentence has that may be mended, told by one search."""
_ORDINARY = STOP_WORDS | FUNCTION_WORDS


def polish(sentence: str, *, first: bool) -> str:
    """A sentence of prose with its apostrophes, without a hedge before and a laugh behind it, and with its capital.

    ``first`` says that nothing is before it. Sentences that hold code, and those in other languages, stay as they are.
    """
    if sentence[:1].isupper() and not _SUSPECT.search(sentence):
        return sentence
    if "`" in sentence or "\n" in sentence or not sentence or not sentence[0].isascii():
        return sentence
    words = [word.casefold() for word in WORD.findall(sentence)]
    if len(words) < 3 or _ENGLISH.isdisjoint(words):
        return sentence
    said = _MARKS.sub(lambda found: found[0][0], _LAUGH.sub("", sentence))
    said = _BARE.sub(_with_apostrophe, said)
    said = _ITS_SO.sub(_with_apostrophe, _ITS.sub(_with_apostrophe, said))
    bare = _HEDGE.sub("", said)
    if len(bare.split()) >= 3:
        said = bare
    said = _AFTER_VERDICT.sub(lambda found: found[0].upper(), said)
    begins = WORD.match(said)
    if (
        begins
        and said[0].islower()
        and (
            begins[0] in _ORDINARY
            or "'" in begins[0]
            or (not first and begins[0].isalpha() and said[begins.end() : begins.end() + 1] == " ")
        )
    ):
        said = said[0].upper() + said[1:]
    return said


def _with_apostrophe(found: re.Match[str]) -> str:
    bare = found[0]
    full = "it's" if bare.casefold() == "its" else _CONTRACTIONS[bare.casefold()]
    return full[0].upper() + full[1:] if bare[0].isupper() else full
