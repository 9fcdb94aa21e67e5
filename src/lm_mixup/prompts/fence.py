"""Fences around sample text, so that a model can tell data from instructions whatever the data says.

A fence is a word that the text cannot hold: it is derived from the text's own content hash, so nobody who writes a
sample can know it beforehand, and yet it is the same in every run (a prompt's ledger key must not change by itself).
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_mixup.records import digest

_WORD_LENGTH = 12


def fence_word(content_digest: str, texts: Sequence[str]) -> str:
    """A word that occurs in none of the texts, fixed by ``content_digest`` (which must cover the texts)."""
    for turn in range(1_000_000):
        word = digest(["fence", turn, content_digest])[:_WORD_LENGTH].upper()
        if not any(word in text for text in texts):
            return word
    raise AssertionError("unreachable: no text holds a million chosen 48-bit words")


def fenced(word: str, label: str, text: str) -> str:
    """The text between an opening and a closing line that only our side can write."""
    return f"<<<{word} {label}\n{text}\n{word}>>>"


def trim_middle(text: str, limit: int) -> tuple[str, int]:
    """The text in at most ``limit`` characters besides a visible mark, and how many characters were left out.

    The middle goes: a sample's beginning says what it is about, its end whether it comes to an end.
    """
    if len(text) <= limit:
        return text, 0
    head = (limit + 1) * 2 // 3
    tail = limit - head
    left_out = len(text) - limit
    mark = f"\n[… {left_out} characters left out here …]\n"
    return text[:head].rstrip() + mark + (text[len(text) - tail :].lstrip() if tail else ""), left_out
