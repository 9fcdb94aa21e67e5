"""The extractive writer: what it writes stands in its source, word for word, and has its type's form."""

from __future__ import annotations

from pathlib import Path

from lm_mixup.mixture.material import TYPE_OF
from lm_mixup.mixture.write import answered, names, written
from lm_mixup.records import TaskType
from lm_mixup.task_types import CS, QA, Para, parse, render
from tests.mixture.material import collected, targets


def test_all_five_types_in_form_and_accounted_for(tmp_path: Path) -> None:
    made = targets(tmp_path)
    assert {t.task_type for t in made.targets} == set(TaskType)
    assert made.tried == len(made.targets) + sum(made.dropped.values())
    for target in made.targets:
        assert parse(target.task_type, render(target.item)) == written(target.item)
    assert len({t.id for t in made.targets}) == len(made.targets)


def test_nothing_is_invented(tmp_path: Path) -> None:
    passages = {p.group: p.text for p in collected(tmp_path).passages}
    for target in targets(tmp_path).targets:
        text = passages.get(target.groups[0], "")
        match target.item:
            case CS(_, statement):
                assert statement in text
            case Para(paragraph, _):
                assert paragraph == text
            case QA(_, answer):
                short, _, rest = answer.partition(". ")
                assert short in text
                assert rest in text


def test_an_answer_without_support_is_not_written() -> None:
    assert answered("Who won the cup?", "Bayern", ["The cup was won by a team from Turin in 1985."]) is None


def test_an_answer_that_begins_its_sentence_is_not_said_twice() -> None:
    made = answered("Who signed the treaty?", "Rollo", ["Rollo signed the treaty in 911."])
    assert made == QA("Who signed the treaty?", "Rollo signed the treaty in 911.")


def test_naming_a_topic() -> None:
    assert names("Abraham Lincoln", "In 1863 Lincoln spoke.")
    assert names("French and Indian War", "The Indian War began with French troops.")
    assert not names("Yuan dynasty", "The Jin dynasty fell.")
    assert TYPE_OF[CS] == TaskType.CS
