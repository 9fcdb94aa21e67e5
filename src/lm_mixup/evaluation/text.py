"""Measures on words: how alike two texts are word for word, how much of a text is copied from one source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+")

COPIED_WORDS = 4
"""A run of so many words that a source has, too, counts as copied: shorter ones are in everybody's mouth."""


def words_of(text: str) -> list[str]:
    """The words and numbers of a text in small letters, marks left out."""
    return _WORD.findall(text.casefold())


def common_words(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, in words.

    Bit-parallel (Hyyrö 2004): one bit a word of ``first``, three operations on whole numbers a word of ``second``.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | (1 << place)
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & every
    return len(first) - row.bit_count()


def rouge_l(text: str, reference: str) -> float:
    """ROUGE-L F1 in 0–1 (Lin 2004, § 3.1, with beta 1): longest common subsequence of words; 0 where either has none.

    Words as in :func:`words_of`, without stemming.
    """
    mine, theirs = words_of(text), words_of(reference)
    if not mine or not theirs:
        return 0.0
    return 2.0 * common_words(mine, theirs) / (len(mine) + len(theirs))


def surplus(text: str, reference: str) -> float:
    """The share (0–1) of a text's words that the reference does not have, or not so often: noise, repeats, inventions.

    1 − the precision of ROUGE-1. 0 for a text without words.
    """
    mine = Counter(words_of(text))
    beyond = mine - Counter(words_of(reference))
    return beyond.total() / mine.total() if mine else 0.0


def copy_rate(text: str, sources: Sequence[str]) -> float:
    """The share (0–1) of a text's words that lie in runs of four or more words of ONE source: the one that gives most.

    A text that repeats one source has 1; one that draws on several has less. A text of fewer than four words is
    copied if it stands in a source as it is. 0 for a text without words.
    """
    mine = words_of(text)
    if not mine:
        return 0.0
    size = min(COPIED_WORDS, len(mine))
    runs = [tuple(mine[i : i + size]) for i in range(len(mine) - size + 1)]
    most = 0
    for source in sources:
        theirs = words_of(source)
        known = {tuple(theirs[i : i + size]) for i in range(len(theirs) - size + 1)}
        copied, covered = 0, 0
        for start, run in enumerate(runs):
            if run in known:
                copied += start + size - max(start, covered)
                covered = start + size
        most = max(most, copied)
    return most / len(mine)
