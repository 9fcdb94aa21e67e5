"""From the probabilities of an answer's tokens to those of the rating that it states."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from lm_mixup.llm.parsing import SCALE_MAX, SCALE_MIN

MIN_MASS = 0.5
"""At least so much of the probability must lie on ratings, else nothing is known."""

_STATED = re.compile(r"overall[^:0-9]{0,40}:\s*\"?(?=\d)", re.IGNORECASE)


def overall_probabilities(logprobs: object, stated: int) -> dict[int, float] | None:
    """The probability of each overall rating (1–10) at the place where the answer states ``stated``, or None.

    ``logprobs`` is [[token, [[alternative, log probability], …]], …], as :mod:`lm_mixup.llm.openai_wire` reads it. A
    tokenizer that writes 10 as two tokens cannot tell 1 from 10 in its alternatives; what begins with 1 then counts as
    what was stated. None where the place cannot be found or the alternatives are no ratings.
    """
    if not isinstance(logprobs, Sequence) or isinstance(logprobs, str) or not logprobs:
        return None
    text, starts = "", []
    for token, _ in logprobs:
        starts.append(len(text))
        text += token
    places = [match.end() for match in _STATED.finditer(text)]
    if len(places) != 1:
        return None
    at = next((n for n in range(len(starts) - 1, -1, -1) if starts[n] <= places[0]), 0)
    token, alternatives = logprobs[at]
    begin = token[: places[0] - starts[at]]  # what stands before the digits in the same token, such as a space
    split_ten = stated == SCALE_MAX and token[len(begin) :] == "1"
    found: dict[int, float] = {}
    for alternative, logprob in alternatives:
        digits = alternative.strip().strip('"')
        if alternative.startswith(begin) and digits.isdecimal():
            number = SCALE_MAX if split_ten and digits == "1" else int(digits)
            if SCALE_MIN <= number <= SCALE_MAX:
                found[number] = found.get(number, 0.0) + math.exp(logprob)
    return found if sum(found.values()) >= MIN_MASS and stated in found else None
