"""Collecting: every shape of source, and every row accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_mixup.errors import PoolError
from lm_mixup.mixture.collect import Collector, group_of, supporting
from lm_mixup.mixture.statements import as_stem, statement_of, truecase
from lm_mixup.task_types import MCQ, QA, TFQ
from tests.mixture.material import collected


def _one(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_counts_add_up_and_order_is_kept(tmp_path: Path) -> None:
    found = collected(tmp_path, 8)
    assert found.rows == 24 == found.kept + sum(found.dropped.values())
    assert len(found.passages) == 8
    assert [type(e.item) for e in found.exercises] == [MCQ] * 8 + [TFQ] * 8


def test_titles_make_groups_and_texts_do_without() -> None:
    assert group_of("Steam_engine", "x") == group_of("steam engine", "y") == "title:steam engine"
    assert group_of("", "One text.") == group_of("", "one  text!") != group_of("", "Another text.")


def test_a_passage_in_two_files_is_one_group(tmp_path: Path) -> None:
    text = (
        "The harbor was built by monks in 1412. It has two moles of granite. Ships of every size use the harbor today. "
        * 2
    )
    one = _one(tmp_path, {"text": text, "title": None, "qas": []}, name="a.jsonl")
    two = _one(
        tmp_path, {"question": "was the harbor built by monks", "answer": "True", "passage": text}, name="b.jsonl"
    )
    found = Collector().collect([one, two])
    assert found.passages[0].group == found.exercises[0].group


def test_choices_inside_the_question_are_unfolded(tmp_path: Path) -> None:
    row = {
        "question": "What do young boys do on the ice?\nChoices:\nA. ski\nB. play hockey\nC. knit\nD. warm\nAnswer:",
        "choices": ["A", "B", "C", "D"], "answer_index": 1, "answer": "B",
    }  # fmt: skip
    found = Collector().collect([_one(tmp_path, row)])
    assert found.exercises[0].item == MCQ(
        "What do young boys do on the ice?", ("ski", "play hockey", "knit", "warm"), 1
    )


GERMAN = {
    "prompt": "Hallo, wie geht es dir heute, mein lieber alter Freund?",
    "completion": "Mir geht es sehr gut, danke der Nachfrage, und dir selbst?",
}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Which?", "choices": ["one", "One"], "answer_index": 0}, "equal-choices"),
        ({"question": "Which?", "choices": ["one", "two"], "answer_index": 7}, "bad-choices"),
        ({"text": "Too short."}, "too-little-clean-text"),
        ({"question": "was it", "answer": "true", "passage": "Nothing bears on that."}, "passage-does-not-support"),
        (GERMAN, "other-language"),
        ({"prompt": "Why is that?", "completion": "Because of rain. " * 99}, "too-long"),
        ({"prompt": "Why?", "completion": "Rain."}, "too-short"),
        ({"statement": "THE ROCK SERVED AS A PRISON in 1900", "answer": "True"}, "all-capitals"),
        ({"nothing": "known"}, "unknown-layout"),
    ],
)  # fmt: skip
def test_rows_that_are_left_out(tmp_path: Path, row: dict[str, object], reason: str) -> None:
    good = {"statement": "Snakes cannot unhinge their jaws at any time", "answer": "True"}
    found = Collector().collect([_one(tmp_path, row, good)])
    assert dict(found.dropped) == {reason: 1}


def test_meta_talk_goes_from_reasons(tmp_path: Path) -> None:
    row = {
        "statement": "the moon is made of cheese",
        "answer": "False",
        "explanation": "This statement is false because the moon is made of rock",
    }
    item = Collector().collect([_one(tmp_path, row)]).exercises[0].item
    assert item == TFQ("The moon is made of cheese.", False, "The moon is made of rock.")


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("This fact is a part of recorded history.", ""),
        ("It is a false and outlandish statement to be made.", ""),
        ("I looked it up online and saw the moon.", ""),
        ("The sentence is labeled as false for the moon is round.", ""),
        ("The moon is made of rock.", "The moon is made of rock."),
    ],
)
def test_reasons_that_say_nothing_go(tmp_path: Path, reason: str, kept: str) -> None:
    row = {"statement": "the moon is made of cheese", "answer": "False", "explanation": reason}
    item = Collector().collect([_one(tmp_path, row)]).exercises[0].item
    assert item == TFQ("The moon is made of cheese.", False, kept)


def test_instruction_rows_and_articles(tmp_path: Path) -> None:
    pool = _one(
        tmp_path,
        {"prompt": "What is the capital of France and why?", "completion": "It is Paris, the seat of its government."},
    )
    article = tmp_path / "bridges.md"
    sentence = "The bridge over the Aln was built of oak in {} by a guild of masons. "
    article.write_text(
        "# Old bridges\n\n" + "".join(sentence.format(1500 + n) for n in range(8)) + "\n\n```\ncode = 1\n```\n"
    )
    found = Collector(max_words=80).collect([pool, article])
    assert isinstance(found.exercises[0].item, QA)
    assert {p.group for p in found.passages} == {"title:old bridges"}
    assert len(found.passages) == 2
    assert all("code" not in p.text for p in found.passages)


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no passage and no item"):
        Collector().collect([_one(tmp_path, {"text": "Short."})])


def test_supporting_sentences_hold_the_answer_and_lean_on_nothing() -> None:
    sentences = ["Rollo led the Normans.", "He signed the treaty with King Charles.", "Wine was cheap."]
    assert supporting("Who did Rollo sign the treaty with?", sentences, "King Charles") == sentences[:2]
    assert supporting("What did wine cost in the town?", sentences, "a shilling") == []
    # yes or no: most of the question's words must be there
    assert supporting("Did Rollo lead the Normans?", sentences) == sentences[:1]
    assert supporting("Did Rollo lead the Normans to Sicily in winter?", sentences) == []


def test_questions_become_statements() -> None:
    assert statement_of("Is there a bridge?", True) == ("There is a bridge.", True)
    assert statement_of("Do you count walks?", False) == ("You count walks.", False)
    assert (
        statement_of("Can a passport card be used for flights?", True)[0] == "A passport card can be used for flights."
    )
    assert statement_of("Is a recorder the same as a tin whistle?", False)[0] == (
        "A recorder is the same as a tin whistle."
    )
    assert statement_of("Has Croatia ever won the World Cup?", False)[0] == "Croatia has won the World Cup."
    assert statement_of("Do cows have to be pregnant?", True)[0] == "Cows do have to be pregnant."
    for question in (
        "Did Elizabeth own a ship?",
        "Has anyone ever won twice?",
        "Is the girl in the picture a queen?",
        "Is breaking and entering a crime?",
    ):
        assert statement_of(question, True) == (f'The answer to the question "{question}" is yes.', True)


def test_spelling_of_questions() -> None:
    assert truecase("is france in the eu", "Since then France and the EU agree. The eu.") == "is France in the eu"
    assert (
        as_stem("Deforestation has an impact on")
        == 'Which option completes the sentence "Deforestation has an impact on …"?'
    )
    assert as_stem("which is right") == "Which is right?"
    assert as_stem("when is it cold") == "When is it cold?"
    assert (
        as_stem("When a fern has spores, it") == 'Which option completes the sentence "When a fern has spores, it …"?'
    )
