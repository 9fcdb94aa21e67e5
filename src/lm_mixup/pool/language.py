"""The language of a conversation: an ISO 639 code where it is sure, "und" where it is not.

Clusters do not mix languages, so a wrong language costs more than none: it takes a row away from its neighbours. Hence
the thresholds, measured on real pools with py3langid 0.4, whose confidence is calibrated (docs/formats.md has the
figures); a row left at "und" takes the language of its source where nearly all of that source is in one
(:func:`settle`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from lm_mixup.records import UNKNOWN_LANGUAGE

MAX_CHARS = 200
"""So many characters are looked at: with 600 the same real rows get the same languages, at half the speed."""
MIN_LETTERS = 20
MIN_LETTERS_OWN_SCRIPT = 4
"""Fewer letters suffice where most are of another script than Latin: a script says most of the language already."""
MIN_CONFIDENCE = 0.8

_LATIN_END = "\u0370"
"""Letters before it (Basic Latin to IPA and combining marks) are Latin; Greek is the first script after."""
_NOT_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|</?[A-Za-z][^<>\n]{0,200}>", re.DOTALL)
_STRIPPED_CHARS = 4 * MAX_CHARS


def detect(text: str, *, max_chars: int = MAX_CHARS, min_confidence: float = MIN_CONFIDENCE) -> str:
    """The language that the head of ``text`` is written in, as a lower-case ISO 639 code, or "und".

    Code, links and markup are left out first. The same text always gets the same answer.
    """
    prose = _NOT_PROSE.sub(" ", text[: max(_STRIPPED_CHARS, max_chars)])[:max_chars]
    letters = sum(map(str.isalpha, prose))
    beyond = 0 if prose.isascii() else sum(c >= _LATIN_END and c.isalpha() for c in prose)
    if letters < (MIN_LETTERS_OWN_SCRIPT if beyond * 2 > letters else MIN_LETTERS):
        return UNKNOWN_LANGUAGE
    code, confidence = _identifier().classify(prose)
    return str(code) if confidence >= min_confidence else UNKNOWN_LANGUAGE


def settle(counts: Mapping[str, Mapping[str, int]], *, min_share: float = 0.9, min_rows: int = 20) -> dict[str, str]:
    """The language that a source's undetermined rows take: source → code, for the sources where one is plain.

    ``counts`` are rows by source and language. A language is plain where at least ``min_share`` of the source's
    determined rows, of which there are at least ``min_rows``, are in it.
    """
    plain = {}
    for source, languages in counts.items():
        known = {code: rows for code, rows in languages.items() if code != UNKNOWN_LANGUAGE}
        total = sum(known.values())
        if total < max(min_rows, 1):
            continue
        code = max(known, key=lambda c: (known[c], c))
        if known[code] >= min_share * total:
            plain[source] = code
    return plain


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
