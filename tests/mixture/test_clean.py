"""Cleaning sentences: known faults of dumps go, whole sentences stay as they are."""

from __future__ import annotations

import pytest

from lm_mixup.mixture.clean import defined_topic, independent, leans, sentences_of, topic_of


@pytest.mark.parametrize(
    ("sentence", "leaning"),
    [
        ("However, it rained.", True),
        ("Most of them were trained by Apollo.", True),
        ("During 1988, he also set a record.", True),
        ("Most anthropologists study a place.", False),
        ("While he was taking it back, he met Apollo.", True),
        ("To the immune system, these antigens appear foreign.", True),
        ("Germany did so, and the war ended.", True),
        ("The film was directed by Peter Weir.", True),
        ("The film theory of Balazs was new.", False),
        ("In 1860, Lincoln noted that the family moved.", False),
        ("Some animals, such as bats, sleep in winter.", False),
    ],
)
def test_what_leans_on_the_sentence_before(sentence: str, leaning: bool) -> None:
    assert leans(sentence) == leaning


def test_whole_sentences_stay_word_for_word() -> None:
    text = 'He met Dr. Smith in Washington, D.C. on 4 May. "It is late," she said. The end came in 1944.'
    assert " ".join(sentences_of(text)) == text


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        (
            "The town has a port.[citation needed] It is old and small.",
            ["The town has a port.", "It is old and small."],
        ),
        ("They called it ``the Rock'' in those days.", ['They called it "the Rock" in those days.']),
        (
            "Early lifeAbraham was born in a cabin. Abraham moved later on.",
            ["Abraham was born in a cabin.", "Abraham moved later on."],
        ),
        ("Slides were made in PowerPoint by the team.", []),
        ("The letter  represents a sound in English.", []),
        ("He sends a plague () to the people.", []),
        ("The case was Pierce v. Society of Sisters in 1925.", ["The case was Pierce v. Society of Sisters in 1925."]),
        ("Another sentence stands here. The case was Pierce v.", ["Another sentence stands here."]),
        (
            "The force is weak.:2–10:79 The unit is 7003100000000000000♠1,000 g.",
            ["The force is weak.", "The unit is 1,000 g."],
        ),
        (
            "Medieval Europe The introduction of alchemy may be dated to 1144.",
            ["The introduction of alchemy may be dated to 1144."],
        ),
        (
            "The house was by the Power of One the critics said.",
            ["The house was by the Power of One the critics said."],
        ),
        ('He said "I studied with nobody."Illinois elected him.', []),
        ("A Literary History of Alabama: The Nineteenth Century (1979).", []),
        ("The French called the tribe the, with maps of the river.", []),
        ("Applied Applied anthropology refers to a method.", ["Applied anthropology refers to a method."]),
        ("It begins in the middle and then", []),
        ("Etymology The name comes from an old word.", ["The name comes from an old word."]),
    ],
)
def test_faults_of_dumps(dirty: str, clean: list[str]) -> None:
    assert sentences_of(dirty) == clean


def test_leaning_sentences_at_the_beginning_go() -> None:
    assert independent(["He was tall.", "However, it rained.", "Lincoln spoke.", "He left."]) == (
        "Lincoln spoke.",
        "He left.",
    )
    assert independent(["They came."]) == ()


@pytest.mark.parametrize(
    ("title", "topic"),
    [
        ("In Greek mythology, Achilles", "Achilles"),
        ("Algeria, officially the People's Democratic Republic of Alge", "Algeria"),
        ("This", ""),
        ("French_and_Indian_War", "French and Indian War"),
        ("Sky (United Kingdom)", "Sky"),
        ("The Academy Award for Best Production Design recognizes achi", ""),
    ],
)
def test_topics_of_titles(title: str, topic: str) -> None:
    assert topic_of(title) == topic


@pytest.mark.parametrize(
    ("sentence", "topic"),
    [
        ("The blue mud dauber (Chalybion californicum) is a wasp.", "blue mud dauber"),
        ("The Game is an American series.", "The Game"),
        ("Although Ireland is a member of the Union, it opted out.", ""),
        ("In 1990 the town was a port.", ""),
        ("Many keepers use pumps.", ""),
        ("The following is a list of teams.", ""),
        ("Get Rich or Die Tryin' is a 2005 film.", "Get Rich or Die Tryin'"),
        ("A damper or shock absorber is a device.", "damper"),
    ],
)
def test_topics_that_a_sentence_defines(sentence: str, topic: str) -> None:
    assert defined_topic(sentence) == topic
