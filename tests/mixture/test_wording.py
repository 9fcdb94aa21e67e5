"""Wording: what the degraders write in the place of what they take."""

from __future__ import annotations

import random

import pytest

from lm_mixup.mixture.wording import blurred, framed, gist, small, without_conjunction, without_phrase


@pytest.mark.parametrize(
    ("text", "vague"),
    [
        ("The Moon revolves around the Earth.", "Something revolves around something."),
        ("The rules of the Alabama legislature changed.", "The rules of some legislature changed."),
        ("Light fell on Peter's shirt.", "Light fell on someone's shirt."),
        ("He lived in Vienna for years.", "He lived in a certain place for years."),
        ("It was written by Diablo Cody.", "It was written by someone."),
        ("The role was played in Mrs. Doubtfire.", "The role was played in a certain place."),
        ("Andrew Lortie was a writer.", "Andrew Lortie was a writer."),
        ("It is a 2018 film.", "It is some film."),
        ("The storm came in April 1944.", "The storm came in April of a certain year."),
        ("It rained on 4 May at 12:30.", "It rained on 4 May at 12:30."),
    ],
)
def test_blurred(text: str, vague: str) -> None:
    assert blurred(text, random.Random(1), 1.0) == vague


def test_blurred_numbers_read_on() -> None:
    for seed in range(20):
        made = blurred("About 60% of the 14 boats sank.", random.Random(seed), 1.0)
        assert "of of" not in made
        assert "60" not in made
        assert "14" not in made
    # a year is a certain year, or it stays
    said = {blurred("It was formed in 1973.", random.Random(seed), 0.3) for seed in range(30)}
    assert said == {"It was formed in 1973.", "It was formed in a certain year."}


@pytest.mark.parametrize(
    ("question", "share", "short"),
    [
        ("Which material is a good conductor of heat?", 0.2, "Which material?"),
        (
            "Which of these best describes the function of the heart?",
            0.6,
            "Which of these best describes the function?",
        ),
        ("Katie has sand. When it is wet, how can she dry the sand in the sun?", 0.7, "How can she dry the sand?"),
        (
            'Which option completes the sentence "A solid is likely to form in extreme …"?',
            0.25,
            'Which option completes the sentence "… in extreme …"?',
        ),
        ("Why?", 0.2, "Why?"),
    ],
)
def test_gist(question: str, share: float, short: str) -> None:
    assert gist(question, share) == short


def test_frames_are_told_from_what_stands_in_them() -> None:
    head = 'The answer to the question "Can a snake swallow a tank?" is yes.'
    assert framed(head) == ('The answer to the question "', "Can a snake swallow a tank?", '" is yes.')
    assert framed("A snake can swallow a tank.") == ("", "A snake can swallow a tank.", "")


def test_small_words() -> None:
    assert small("A static force is a force.") == "a static force is a force."
    assert small("Eventually, it rained.") == "eventually, it rained."
    assert small("Rollo led them.") == "Rollo led them."


def test_clauses_and_phrases() -> None:
    assert without_conjunction("and it burned down.") == "it burned down."
    assert without_conjunction("while making cider.") == "while making cider."
    assert without_phrase("increasing the rate of algae growth.") == "increasing the rate."
    assert without_phrase("copper") == "copper"
