"""Words, for the extractive distiller: which of them say something, and which are one word in two forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

# letters with their combining marks, in every script; Python's \w has no vowel signs of Hindi or Arabic
_LETTERS = (
    "A-Za-zªµºÀ-ÖØ-öø-\u060b\u0610-\u061a\u0620-\u06d3\u06d5-\u0963\u0966-\u1fff\u2c00-\u2dff\u3005-\u3007\u3040-\ud7ff"
    "\uf900-\ufdff\ufe70-\ufefc\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc\U00010000-\U0001efff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"\d+(?:[.,:/]\d+)*%?|[{_LETTERS}]+(?:['’][{_LETTERS}]+)*")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts written without spaces: their words are taken as pairs of characters."""


def word_set(text: str) -> frozenset[str]:
    """The words of a text, parted by spaces."""
    return frozenset(text.split())


STOP_WORDS = word_set(
    "a an the and or but nor so yet if then else than as at by for from in into of off on onto out over "
    "per to up via with without within about "
    "above across after against along among around before behind below beneath beside between beyond "
    "down during near since through toward towards "
    "under until upon is am are was were be been being do does did doing done has have had having will "
    "would shall should can could may might must "
    "it its it's i i'm me my mine we us our ours you you're your yours he him his she her hers they them "
    "their theirs this that these those there "
    "here what which who whom whose when where why how not no yes all any both each few more most other "
    "some such only own same too very just also "
    "even still ever never again once because while although though however therefore thus hence "
    "moreover furthermore additionally let lets let's "
    "get got make made go goes going one ones s t don doesn didn isn aren wasn weren won can't don't "
    "doesn't didn't isn't aren't wasn't won't "
    "please give tell explain describe write list name say know like want need used use using way ways "
    "thing things many much lot etc"
)
FUNCTION_WORDS = word_set(
    "a an the and or but of in on at to for from with by as is are was were be been it its this that "
    "these those he she they we you i his her their "
    "our your my not no can will would should could may have has had do does did if when which who what "
    "where how there than then so"
)
CONNECTIVES = frozenset({"and"})
"""The only words that the distiller may put in by itself (between two joined questions)."""


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A crude stem: case and the commonest English endings fall. Good enough to see that two words are one."""
    word = word.casefold().replace("’", "'")
    if word.endswith("'s"):
        word = word[:-2]
    if len(word) > 3 and word.isascii():
        for ending in ("ingly", "ations", "ation", "ing", "ies", "edly", "ed", "es", "ly", "s"):
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                word = word[: -len(ending)]
                break
        if word.endswith(("e", "y", "i")) and len(word) > 3:
            word = word[:-1]
        if len(word) > 4 and word[-1] == word[-2]:
            word = word[:-1]
    return word


@lru_cache(maxsize=65_536)
def _content(word: str) -> tuple[str, ...]:
    if not word[0].isascii() and _UNSPACED.match(word):
        return tuple(word[i : i + 2] for i in range(len(word) - 1)) or (word,)
    folded = word.casefold().replace("’", "'")
    if folded in STOP_WORDS or (len(folded) == 1 and folded.isascii() and not folded.isdigit() and not word.isupper()):
        return ()
    return (stem(word),)


def content_words(text: str) -> frozenset[str]:
    """The stems of the words that say something: names, numbers, nouns, verbs; for unspaced scripts, "
    "character pairs.
    """
    return frozenset(part for word in WORD.findall(text) for part in _content(word))


def content_order(words: Sequence[str]) -> tuple[str, ...]:
    """The stems of :func:`content_words` in the order of the text, each once."""
    return tuple(dict.fromkeys(part for word in words for part in _content(word)))


def numbers(stems: frozenset[str]) -> frozenset[str]:
    """Those of ``stems`` that are numbers."""
    return frozenset(one for one in stems if one[0].isdigit())
