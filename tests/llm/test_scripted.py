"""The scripted model, for tests of users' own recipes."""

import asyncio
import json

import pytest

from lm_mixup.errors import InputError
from lm_mixup.llm.scripted import Scripted
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.records import Failure


def prompt(text, id="p"):
    return Prompt(id, ({"role": "system", "content": "be good"}, {"role": "user", "content": text}))


def complete(model, *texts):
    return asyncio.run(model.complete([prompt(text, str(i)) for i, text in enumerate(texts)]))


def test_a_mapping_answers_by_parts_in_order():
    model = Scripted({"tea": "leaves", "a": "first letter", "": "else"})
    assert isinstance(model, LLM)
    assert complete(model, "what is tea?", "a?", "zzz") == [
        Completion("0", "leaves"),
        Completion("1", "first letter"),
        Completion("2", "else"),
    ]
    assert len(model.asked) == 3


def test_what_nothing_matches_is_a_failure():
    assert complete(Scripted({"tea": "x"}), "rum") == [Failure("0", "llm", "not-in-script")]


def test_a_function_may_answer_anything_and_needs_a_name():
    lost = Failure("0", "llm", "timeout")
    assert complete(Scripted(lambda p: lost, name="lost"), "x") == [lost]
    with pytest.raises(InputError, match="name"):
        Scripted(lambda p: "x")


def test_the_key_follows_the_script():
    assert Scripted({"a": "b"}).key == Scripted({"a": "b"}).key != Scripted({"a": "c"}).key


def test_from_a_file(tmp_path):
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"": "yes"}))
    assert complete(Scripted.from_file(file), "x")[0].text == "yes"
    for bad in ("[1]", '{"a": 1}', "{"):
        file.write_text(bad)
        with pytest.raises(InputError, match=r"s\.json"):
            Scripted.from_file(file)
