"""The language of a conversation: an ISO 639-1 code where it is sure, "und" where it is not."""

from __future__ import annotations

import functools
from typing import Any

from lm_mixup.records import UNKNOWN_LANGUAGE


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detect(text: str, *, max_chars: int = 600, min_letters: int = 40, min_confidence: float = 0.9) -> str:
    """The language of ``text``: its first ``max_chars`` characters decide."""
    part = text[:max_chars]
    if sum(map(str.isalpha, part)) < min_letters:
        return UNKNOWN_LANGUAGE
    code, confidence = _identifier().classify(part)
    return str(code) if confidence >= min_confidence else UNKNOWN_LANGUAGE
