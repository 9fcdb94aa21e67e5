"""The chain of thought of a row, from how it was built: which variant gives what, what goes and why. METHOD § 2.

Nothing is invented: every sentence states what the construction knows. Variants are called by their place in the input.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from lm_mixup.distillers.facts import Fact, facts_of_all
from lm_mixup.mixture.degrade import Degraded
from lm_mixup.mixture.degraders import SAYS
from lm_mixup.mixture.material import Variant

_NOISE = {
    "typo": "typing errors",
    "case": "odd capitals",
    "doubled": "doubled words",
    "markup": "stray mark-up",
    "ocr": "scanning errors",
}
QUOTED_WORDS = 9


def chain_of_thought(made: Degraded, *, seed: int = 0) -> str:
    """A few sentences, one for each variant (at most), and one on how the rest is put together."""
    rng = random.Random(f"cot:{seed}:{made.target.id}")
    facts = facts_of_all(made.target.whole)
    out = [_opening(made, rng)]
    told: set[int] = set()
    for number, variant in enumerate(made.variants, start=1):
        out.append(_about(number, variant, facts, told))
        told |= variant.kept
    lost = [n for n in range(len(facts)) if n not in told]
    out.append(_closing(made, lost))
    return " ".join(out)


def _opening(made: Degraded, rng: random.Random) -> str:
    count = len(made.variants)
    if made.target.parts:
        topics = [part.topic for part in made.target.parts if part.topic]
        named = f" ({'; '.join(topics)})" if len(topics) == 2 else ""
        return f"The {count} samples are about two related topics{named}, so the result has to cover both."
    if count == 2:
        return rng.choice(("Both samples say parts of the same thing.", "Both samples are versions of one item."))
    return rng.choice(
        (
            f"The {count} samples say parts of the same thing.",
            f"All {count} samples are versions of one item, each with its own faults.",
            f"These {count} samples overlap; together they give the whole.",
        )
    )


def _about(number: int, variant: Variant, facts: Sequence[Fact], told: set[int]) -> str:
    faults = [SAYS[kind] for kind in variant.kinds]
    noise = [_NOISE[kind] for kind in variant.noise]
    if noise:
        faults.append("has " + _listed(noise))
    new = sorted(variant.kept - told)
    text = f"Sample {number} {_listed(faults)}" if faults else f"Sample {number} is sound as far as it goes"
    if variant.wrong:
        wrong = facts[min(variant.wrong)]
        what = "its answer" if wrong.part == "answer" else f'what it says on "{_quoted(wrong.text)}"'
        text += f"; {what} does not agree with the others and is dropped"
    if new:
        text += f", {'but' if faults else 'and'} it gives {_given(new, facts)}"
    elif told:
        text += " and adds nothing new"
    return text + "."


def _given(new: Sequence[int], facts: Sequence[Fact]) -> str:
    heads = [n for n in new if facts[n].part == "head"]
    options = [n for n in new if facts[n].part == "option"]
    answers = [n for n in new if facts[n].part == "answer"]
    body = [n for n in new if facts[n].part == "body"]
    parts = []
    if heads:
        parts.append("the wording at the head" if not facts[heads[0]].text.endswith("?") else "the full question")
    if options:
        parts.append("the options" if len(options) > 1 else f'the option "{facts[options[0]].text}"')
    if answers:
        parts.append("the answer")
    if body:
        more = f" and {len(body) - 1} more point{'s' if len(body) > 2 else ''}" if len(body) > 1 else ""
        parts.append(f'"{_quoted(facts[body[0]].text)}"{more}')
    return _listed(parts)


def _closing(made: Degraded, lost: Sequence[int]) -> str:
    noisy = any(variant.noise for variant in made.variants)
    mends = ", with the noise mended" if noisy else ""
    text = f"Put together once each, in good order{mends}, this gives the result."
    if lost:
        text += (
            f" {len(lost)} detail{'s' if len(lost) > 1 else ''} of it can only be pieced together from several samples."
        )
    return text


def _quoted(text: str) -> str:
    words = text.split()
    return " ".join(words[:QUOTED_WORDS]).rstrip(",;:.") + (" …" if len(words) > QUOTED_WORDS else "")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
