"""Degrading: variants are poor, different, in form, and together hold the facts."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_mixup.distillers.extractive_words import content_words
from lm_mixup.distillers.facts import coverage, facts_of
from lm_mixup.distillers.segments import split_sentences
from lm_mixup.mixture.cot import chain_of_thought
from lm_mixup.mixture.degrade import RuleDegrader
from lm_mixup.mixture.degraders import DEGRADERS, applicable
from lm_mixup.mixture.draft import Draft
from lm_mixup.mixture.material import Target
from lm_mixup.mixture.wording import without_conjunction
from lm_mixup.mixture.write import target_id, written
from lm_mixup.records import TaskType
from lm_mixup.task_types import CS, MCQ, QA, TFQ, Item, Para, parse, render
from tests.mixture.material import targets

QUESTION = QA(
    "When was the old abbey of Citeaux founded?",
    "In 1098. The abbey was founded by Robert of Molesme in 1098. It burned down twice in the next 40 years. "
    "Monks from Dijon built it again, because the duke wished it.",
)
CHOICE = MCQ("What do green plants need in order to grow well?", ("light from the sun", "sand", "iron", "wood"), 0)
VERDICT = TFQ("The moon of the earth is a star with 12 planets.", False, "The moon is a rock that reflects light.")
TOPIC = CS("Moon", "The moon orbits the earth in 27 days. It has no air. People walked on it in 1969.")
TEXT = Para("The moon orbits the earth in 27 days. It has no air, and it is cold. Neil Armstrong walked on it in 1969.")
ITEMS: list[Item] = [QUESTION, CHOICE, VERDICT, TOPIC, TEXT]


def _after(
    item: Item, name: str, *, spared: frozenset[int] = frozenset(), seed: int = 0, strength: float = 0.5
) -> Item | None:
    draft = Draft.of(item, facts_of(item), spared)
    return draft.build() if DEGRADERS[name](draft, random.Random(seed), strength) else None


def test_a_draft_that_nothing_was_done_to_is_the_item() -> None:
    for item in ITEMS:
        assert Draft.of(item, facts_of(item), frozenset()).build() == item


@pytest.mark.parametrize("name", DEGRADERS)
@given(seed=st.integers(0, 10_000), strength=st.floats(0.05, 1.0))
@settings(max_examples=25, deadline=None)
def test_each_degrader_changes_the_item_and_keeps_its_form(name: str, seed: int, strength: float) -> None:
    for item in ITEMS:
        if name not in applicable(item):
            continue
        made = _after(item, name, seed=seed, strength=strength)
        if made is not None:
            task_type = Target("", item, (), "").task_type
            assert made != item
            assert type(made) is type(item)
            assert parse(task_type, render(made)) is not None


@pytest.mark.parametrize("name", ["omission", "blur", "outdated", "vague-question", "reasoning-cut"])
def test_spared_facts_stay_whole(name: str) -> None:
    for item in ITEMS:
        facts = facts_of(item)
        for seed in range(20):
            spared = frozenset(random.Random(seed).sample(range(len(facts)), len(facts) // 2))
            made = _after(item, name, spared=spared, seed=seed)
            if made is not None:
                # a clause that has lost the one before it begins a sentence
                kept = [without_conjunction(facts[n].text.rstrip(",;.")) for n in spared if facts[n].part == "body"]
                assert all(text.casefold() in render(made).casefold() for text in kept)


def test_what_each_degrader_does() -> None:
    assert len(render(_after(QUESTION, "omission"))) < len(render(QUESTION))  # type: ignore[arg-type]
    cut = _after(TEXT, "truncation")
    assert isinstance(cut, Para)
    assert TEXT.text.startswith(cut.text)
    assert cut.text[-1].isalnum()
    assert _after(QUESTION, "reasoning-cut") == QA(QUESTION.question, "In 1098.")
    assert _after(VERDICT, "reasoning-cut") == TFQ(VERDICT.statement, False)
    blurred = render(_after(TOPIC, "blur", strength=1.0))  # type: ignore[arg-type]
    assert "1969" not in blurred
    assert "27" not in blurred
    wrong = _after(CHOICE, "outdated")
    assert isinstance(wrong, MCQ)
    assert wrong.answer != CHOICE.answer
    wrong = _after(TFQ("The moon is a star.", False), "outdated")
    assert wrong == TFQ("The moon is a star.", True)
    again = _after(TEXT, "redundancy")
    assert isinstance(again, Para)
    assert coverage(facts_of(TEXT), [again.text]) == 1
    assert len(again.text) > len(TEXT.text)
    chat = _after(TEXT, "register")
    assert isinstance(chat, Para)
    assert "neil armstrong" in chat.text
    fewer = _after(CHOICE, "omission")
    assert isinstance(fewer, MCQ)
    assert len(fewer.options) == 2
    assert fewer.options[fewer.answer].startswith("light")
    assert len(fewer.question.split()) < 5


OPTIONS = ("the ability to run fast", "the ability to see well", "a coat of fur", "a tail")
CHOICES = [
    CHOICE,
    MCQ("Which material is a good conductor?", ("plastic", "rubber", "glass", "copper"), 3),
    MCQ("An owl hunts at night. Which trait helps it most at night?", OPTIONS, 1),
    MCQ("Which trait helps an owl most?", OPTIONS, 1, "Owls hunt by sight and by ear."),
    MCQ('Which option completes the sentence "Owls hunt mice at …"?', ("night", "noon", "sea", "home"), 0),
]


@given(seed=st.integers(0, 10_000), strength=st.floats(0.05, 1.0), item=st.sampled_from(CHOICES))
@settings(max_examples=200, deadline=None)
def test_what_a_choice_lacks_matters(seed: int, strength: float, item: MCQ) -> None:
    rng = random.Random(seed)
    facts = facts_of(item)
    spared = frozenset(n for n in range(len(facts)) if rng.random() < 0.2)
    made = _after(item, "omission", spared=spared, seed=seed, strength=strength)
    if made is None:
        return
    assert isinstance(made, MCQ)
    losses = [
        (content_words(item.question), content_words(made.question)),
        (content_words(item.options[item.answer]), content_words(made.options[made.answer])),
        (content_words(item.reason), content_words(made.reason)),
    ]
    assert any(after < before for before, after in losses)
    assert len({option.casefold() for option in made.options}) == len(made.options)
    assert item.options[item.answer].startswith(made.options[made.answer])


def test_options_that_are_cut_stay_apart() -> None:
    item = MCQ("Which of these traits helps an owl most at night?", OPTIONS, 1)
    for seed in range(30):
        made = _after(item, "truncation", seed=seed, strength=1.0)
        assert isinstance(made, MCQ)
        assert len(set(made.options)) == 4


def test_what_is_said_again_is_said_after_its_sentence() -> None:
    item = Para("UEFA is odd: because teams switch, UEFA has rules of its own for its two cups. Rain fell on the cup.")
    for seed in range(40):
        made = _after(item, "redundancy", seed=seed, strength=1.0)
        assert isinstance(made, Para)
        assert "of its own for its two cups. " in made.text
        assert not re.search(r"[.] [a-z]", made.text)
        assert not re.search(r"[.][\"”]?[.]", made.text)


def test_what_breaks_off_is_not_said_again() -> None:
    assert _after(Para("The town of Rouen was the seat of Rollo and of"), "redundancy") is None
    made = _after(Para("Rollo was a viking of old. The town of Rouen was the seat of"), "redundancy")
    assert isinstance(made, Para)
    assert made.text.endswith("the seat of")


def test_a_bare_answer_gets_no_filler() -> None:
    item = QA("Is a pug a dog?", "Yes. The pug is a breed of dog with a short face.")
    made = [_after(item, "redundancy", seed=seed) for seed in range(40)]
    assert all(isinstance(one, QA) and one.answer.startswith("Yes. ") for one in made)


def test_sentences_change_places_whole() -> None:
    item = Para(
        "Rollo was a viking, who led men, and he won. He signed a treaty in 911. The town of Rouen was his seat."
    )
    sentences = set(split_sentences(item.text + " "))
    for seed in range(20):
        made = _after(item, "wrong-order", seed=seed)
        assert made is None or set(split_sentences(render(made) + " ")) == sentences
    assert _after(QA("Who?", "Rollo. He was a viking of old."), "wrong-order") is None


def test_a_clause_that_leans_on_one_left_out_goes_with_it() -> None:
    item = Para("Salt is sold in small bags of linen to all of the cooks, which makes it dear. Bread is cheap in town.")
    for seed in range(30):
        made = _after(item, "omission", seed=seed)
        assert isinstance(made, Para)
        assert not made.text.startswith("Which")


def test_casual_text_is_not_cut_or_repeated_afterwards(tmp_path: Path) -> None:
    degrader = RuleDegrader(second=1.0, noisy=0.0, mean_variants=8)
    seen = 0
    for target in targets(tmp_path).targets:
        made = degrader.degrade(target)
        for variant in made.variants if made else ():
            if "register" in variant.kinds and "redundancy" in variant.kinds:
                seen += 1
                text = render(variant.item)
                assert "As said" not in text
                assert "As mentioned" not in text
    assert seen


def test_variants_of_many_targets(tmp_path: Path) -> None:
    degrader = RuleDegrader(seed=3)
    for target in targets(tmp_path).targets:
        made = degrader.degrade(target)
        assert made is not None
        texts = [render(v.item) for v in made.variants]
        assert 2 <= len(texts) <= 20
        assert len(set(texts)) == len(texts)
        assert render(target.item) not in texts
        assert all("\n\n" not in text and parse(target.task_type, text) for text in texts)
        assert made.coverage >= 0.9
        assert made.coverage == coverage(facts_of(target.item), texts)
        # no more wrong variants than the others can outvote
        assert sum(bool(v.wrong) for v in made.variants) <= (len(texts) - 1) // 2


def test_the_same_seed_gives_the_same_variants_whatever_else_is_made(tmp_path: Path) -> None:
    made = targets(tmp_path).targets
    alone = RuleDegrader(seed=1).degrade(made[5])
    assert RuleDegrader(seed=1).degrade_all(made)[5] == alone
    assert RuleDegrader(seed=2).degrade(made[5]) != alone


def test_the_number_of_variants_can_be_set(tmp_path: Path) -> None:
    degrader = RuleDegrader(mean_variants=12, std_variants=0)
    counts = [len(made.variants) for made in degrader.degrade_all(targets(tmp_path, 4).targets) if made]
    assert min(counts) >= 8
    assert max(counts) == 12


def test_an_input_is_no_longer_than_asked() -> None:
    sentence = "The harbor of Arden was opened by engineers from Bremen in {} after a long dispute. "
    target = Target("x", Para("".join(sentence.format(1800 + n) for n in range(12)).strip()), ("g",), "")
    made = RuleDegrader(mean_variants=20, std_variants=0, max_input_words=500).degrade(target)
    assert made is not None
    assert len(made.variants) < 6


def test_a_wrong_setting_is_an_error() -> None:
    with pytest.raises(ValueError, match="weights"):
        RuleDegrader(weights={"spelling": 1.0})
    with pytest.raises(ValueError, match="variants"):
        RuleDegrader(min_variants=1)


def test_the_chain_of_thought_says_what_was_done() -> None:
    target = Target(target_id(TaskType.QA, render(QUESTION)), QUESTION, ("g",), "")
    for seed in range(30):
        made = RuleDegrader(seed=seed).degrade(target)
        assert made is not None
        told = chain_of_thought(made)
        assert all(f"Sample {n} " in told for n in range(1, len(made.variants) + 1))
        assert f"Sample {len(made.variants) + 1} " not in told
        for number, variant in enumerate(made.variants, start=1):
            said = told.split(f"Sample {number} ")[1].split(f"Sample {number + 1} ")[0]
            assert ("does not agree" in said) == bool(variant.wrong)
            assert ("breaks off" in said) == ("truncation" in variant.kinds)


def test_a_paragraphs_written_form_lacks_its_request() -> None:
    assert written(Para("Text.", "Write.")) == Para("Text.")
