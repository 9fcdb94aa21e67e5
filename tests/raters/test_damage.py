"""Damaged copies: other than the original, the same each time, and of the prompt untouched."""

from __future__ import annotations

import pytest

from lm_mixup.raters.damage import DROPS, damage
from lm_mixup.records import Message, Sample

SAMPLE = Sample(
    "a",
    (
        Message("user", "What is the Nile?"),
        Message("assistant", "The Nile is the longest river in Africa. It flows north through eleven countries."),
    ),
)
OTHER = Sample("b", (Message("user", "And tea?"), Message("assistant", "Tea is a drink.")))


@pytest.mark.parametrize("kind", DROPS)
def test_each_kind_changes_the_completion_alone_and_always_the_same_way(kind: str) -> None:
    bad = damage(SAMPLE, kind, seed=3, other=OTHER)
    assert bad is not None
    assert bad.completion != SAMPLE.completion
    assert bad.prompt == SAMPLE.prompt
    assert bad == damage(SAMPLE, kind, seed=3, other=OTHER)
    assert bad.id == f"a#{kind}"


def test_another_seed_damages_otherwise() -> None:
    copies = {damage(SAMPLE, "shuffle", seed=seed, other=OTHER).completion for seed in range(5)}  # type: ignore[union-attr]
    assert len(copies) > 1


@pytest.mark.parametrize("kind", ["cut", "shuffle"])
def test_a_text_too_short_to_damage_gives_none(kind: str) -> None:
    short = Sample("c", (Message("user", "Yes or no?"), Message("assistant", "No.")))
    assert damage(short, kind, seed=0, other=OTHER) is None
