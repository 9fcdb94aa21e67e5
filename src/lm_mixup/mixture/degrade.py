"""Step 3: each target into 2–20 poor variants that together still hold its facts. METHOD § 2 (3, 4).

How it is made sure that nothing is lost: every variant spares some facts, by lot. When all are made, noise included,
what no variant holds is looked for in the texts themselves; where the share that is held falls below ``coverage``, one
variant is made again with exactly those facts spared. The measure is that of :mod:`lm_mixup.distillers.facts`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_mixup.distillers.facts import Fact, Keeper, facts_of
from lm_mixup.mixture.degraders import DEGRADERS, applicable
from lm_mixup.mixture.draft import Draft
from lm_mixup.mixture.material import TYPE_OF, Target, Variant
from lm_mixup.mixture.noise import Noise
from lm_mixup.records import digest
from lm_mixup.task_types import Item, parse, render

VERSION = 2
WEIGHTS: Mapping[str, float] = {
    "omission": 3.0,
    "truncation": 2.0,
    "blur": 1.5,
    "reasoning-cut": 1.5,
    "vague-question": 1.0,
    "redundancy": 1.0,
    "outdated": 0.7,
    "wrong-order": 1.0,
    "register": 1.0,
}
"""How often each degrader is drawn, against the others that can be used. Our own choice."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """A target with its variants, in the order in which they stand in the input; ``coverage`` of its facts (0–1)."""

    target: Target
    variants: tuple[Variant, ...]
    coverage: float


class RuleDegrader:
    """Variants by rules. The same target and seed give the same variants, whatever else is built.

    The number of variants is drawn from a normal distribution of ``mean_variants`` and ``std_variants``, rounded and
    held within ``min_variants``–``max_variants`` (METHOD: MIXTURE has 2–20), and so that the variants have at most
    ``max_input_words`` words together. ``strength`` (0–1) is how much a degrader spoils, drawn anew in a band of half
    around it; ``second`` is the chance of a second degrader on top; ``spare`` the chance that a variant keeps a fact
    whole; ``weights`` say how often each degrader is drawn; ``noisy`` is the share of variants with surface noise.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        mean_variants: float = 5.0,
        std_variants: float = 3.0,
        min_variants: int = 2,
        max_variants: int = 20,
        max_input_words: int = 1400,
        coverage: float = 0.9,
        strength: float = 0.5,
        second: float = 0.3,
        spare: float = 0.15,
        noisy: float = 0.6,
        weights: Mapping[str, float] = WEIGHTS,
        noise: Noise | None = None,
    ) -> None:
        if not 2 <= min_variants <= max_variants:
            raise ValueError(f"variants: expected 2 <= min <= max, got {min_variants} and {max_variants}")
        if not set(weights) <= set(DEGRADERS):
            raise ValueError(f"weights: expected names among {sorted(DEGRADERS)}, got {sorted(weights)}")
        self._seed = seed
        self._mean, self._std = mean_variants, std_variants
        self._min, self._max = min_variants, max_variants
        self._max_words = max_input_words
        self._coverage = coverage
        self._strength = strength
        self._second = second
        self._spare = spare
        self._noisy = noisy
        self._weights = dict(weights)
        self._noise = noise or Noise()

    @property
    def key(self) -> str:
        """A hash of the rules' version and of the settings."""
        settings = [self._seed, self._mean, self._std, self._min, self._max, self._max_words, self._coverage]
        more = [self._strength, self._second, self._spare, self._noisy, self._weights, self._noise.rates]
        return "rules-" + digest([VERSION, settings, more])[:16]

    @property
    def told(self) -> Mapping[str, int]:
        """What there is to tell besides the variants: nothing."""
        return {}

    def degrade_all(self, targets: Sequence[Target]) -> list[Degraded | None]:
        """Each target with its variants, in order."""
        return [self.degrade(target) for target in targets]

    def degrade(self, target: Target) -> Degraded | None:
        """The target's variants, all different from it and each other; None where fewer than the least come out."""
        rng = random.Random(f"degrade:{self._seed}:{target.id}")
        keeper = Keeper(facts_of(target.item))
        output = render(target.item)
        wanted = self._how_many(rng, len(output.split()))
        made: dict[str, Variant] = {}
        for attempt in range(4 * wanted):
            if len(made) >= wanted:
                break
            variant = self._variant(target.item, keeper, rng, plain=attempt == 0)
            if variant is None or (text := render(variant.item)) == output:
                continue
            # what is right must be told from what is wrong by the others: few may be wrong
            if variant.wrong and sum(bool(v.wrong) for v in made.values()) >= (wanted - 1) // 3:
                continue
            made.setdefault(text, variant)
        self._repair(target.item, keeper, made, rng, output)
        if len(made) < self._min:
            return None
        variants = list(made.values())
        rng.shuffle(variants)
        return Degraded(target, tuple(variants), 1 - len(_lost(keeper.facts, variants)) / max(1, len(keeper.facts)))

    def _how_many(self, rng: random.Random, words: int) -> int:
        drawn = round(rng.gauss(self._mean, self._std))
        room = max(self._min, int(self._max_words / max(1.0, 0.75 * words)))
        return max(self._min, min(self._max, drawn, room))

    def _variant(
        self,
        item: Item,
        keeper: Keeper,
        rng: random.Random,
        *,
        spared: frozenset[int] | None = None,
        names: Sequence[str] = (),
        plain: bool = False,
    ) -> Variant | None:
        """One variant; ``plain`` makes it without noise and with one degrader alone. None where its form broke."""
        facts = keeper.facts
        if spared is None:
            spared = frozenset(n for n in range(len(facts)) if rng.random() < self._spare)
        strength = min(1.0, max(0.05, self._strength * rng.uniform(0.5, 1.5)))
        wanted = 2 if not plain and not names and rng.random() < self._second else 1
        order = list(names) or self._draw(applicable(item), rng)
        chosen, rest = order[:wanted], order[wanted:]
        while True:
            # in the order of DEGRADERS, so that a text is not cut after it was made casual; where one can do nothing
            # the next that was drawn takes its place
            draft = Draft.of(item, facts, spared)
            kinds = [name for name in DEGRADERS if name in chosen and DEGRADERS[name](draft, rng, strength)]
            lacking = len(chosen) - len(kinds)
            if not lacking or not rest:
                break
            chosen, rest = [*kinds, *rest[:lacking]], rest[lacking:]
        built = draft.build()
        if not kinds or built is None:
            return None
        noise: frozenset[str] = frozenset()
        if not plain:
            built, noise = self.noised(built, rng)
        return finished(built, keeper, kinds, draft, noise)

    def noised(self, item: Item, rng: random.Random) -> tuple[Item, frozenset[str]]:
        """The item with surface noise, or, by lot, without; and the kinds of noise that fell on it."""
        if rng.random() >= self._noisy:
            return item, frozenset()
        return self._noise.item(item, rng, rng.uniform(0.5, 2.0))

    def _draw(self, names: Sequence[str], rng: random.Random) -> list[str]:
        """All names in a random order, the heavier ones sooner (exponential races)."""
        able = [(rng.expovariate(self._weights[name]), name) for name in names if self._weights.get(name, 0) > 0]
        return [name for _, name in sorted(able)]

    def _repair(self, item: Item, keeper: Keeper, made: dict[str, Variant], rng: random.Random, output: str) -> None:
        """See that the variants hold the wanted share of the facts, by remaking variants around what is lost."""
        for names in (("omission",), ("wrong-order",), ("redundancy",), ("register",), ("redundancy",)):
            lost = _lost(keeper.facts, list(made.values()))
            if len(lost) <= (1 - self._coverage) * len(keeper.facts) + 1e-9 and len(made) >= self._min:
                return
            if names[0] not in applicable(item):
                continue
            variant = self._variant(item, keeper, rng, spared=frozenset(lost), names=names, plain=True)
            if variant is None or (text := render(variant.item)) == output or text in made:
                continue
            if len(made) >= self._max or (len(made) >= self._min and rng.random() < 0.5):
                # in the place of the one whose facts the others hold best
                others = {t: [v for o, v in made.items() if o != t] for t in made}
                del made[min(made, key=lambda t: (len(_lost(keeper.facts, others[t])), len(t)))]
            made[text] = variant


def finished(item: Item, keeper: Keeper, kinds: Sequence[str], draft: Draft, noise: frozenset[str]) -> Variant | None:
    """The variant as it is, with what it holds read off its text; None where it has no longer its type's form."""
    item = _single_block(item)
    text = render(item)
    if parse(TYPE_OF[type(item)], text) is None:
        return None
    return Variant(
        item,
        tuple(name for name in DEGRADERS if name in kinds),
        keeper.held(text),
        frozenset(draft.blurred),
        frozenset(draft.wrong),
        tuple(sorted(noise)),
    )


def _lost(facts: Sequence[Fact], variants: Sequence[Variant]) -> list[int]:
    held = frozenset[int]().union(*(v.holds for v in variants))
    return [number for number in range(len(facts)) if number not in held]


def _single_block(item: Item) -> Item:
    """The item without blank lines in its texts: they part the variants of an input."""
    fields: dict[str, object] = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if isinstance(value, str) and "\n\n" in value:
            fields[field.name] = "\n".join(line for line in value.split("\n") if line.strip())
    return dataclasses.replace(item, **fields) if fields else item  # type: ignore[arg-type]
