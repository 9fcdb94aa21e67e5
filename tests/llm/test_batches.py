"""Batches of local models: decided by the prompts, in their order, once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.ledger import Ledger
from lm_mixup.llm.batches import Generated, batches_of, complete_in_batches
from lm_mixup.llm.openai_wire import Fault
from lm_mixup.ports import Completion, Prompt
from lm_mixup.records import Failure


def prompt(text, id="p", **settings) -> Prompt:
    return Prompt(id, ({"role": "user", "content": text},), **settings)


def text_of(prompt):
    return prompt.messages[0]["content"]


class Engine:
    """Says each prompt's length and remembers the batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        self.batches.append([text_of(p) for p in batch])
        if any(text_of(p) == "too much memory" for p in batch):
            raise RuntimeError("out of memory")
        return [
            Fault("context-length", "too long", retry=False)
            if text_of(p) == "long"
            else Generated(f"{len(text_of(p))}:{text_of(p)[:5]}", "stop", 1, 2)
            for p in batch
        ]


def complete(engine, prompts, ledger=None, size=4, **settings):
    return asyncio.run(complete_in_batches(prompts, engine, model="local", ledger=ledger, batch_size=size, **settings))


@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from([0.0, 1.0])), max_size=60), st.integers(1, 5))
def test_every_prompt_once_in_batches_of_one_setting(items, size):
    prompts = [prompt(text, temperature=t) for text, t in items]
    batches = batches_of(prompts, size)
    assert sorted(i for batch in batches for i in batch) == list(range(len(prompts)))
    assert all(len(batch) <= size and len({prompts[i].temperature for i in batch}) == 1 for batch in batches)


def test_answers_come_in_the_order_of_the_prompts():
    prompts = [prompt("x" * (i * 7 % 23), str(i)) for i in range(50)]
    answers = complete(Engine(), prompts)
    assert [a.id for a in answers] == [str(i) for i in range(50)]
    assert [a.text.split(":")[0] for a in answers] == [str(i * 7 % 23) for i in range(50)]


def test_a_repeated_call_makes_the_same_batches_of_what_is_missing(tmp_path):
    prompts = [prompt(f"{'y' * i} {i}", str(i)) for i in range(12)]
    whole = Engine()
    expected = complete(whole, prompts)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = Engine()
        complete(first, prompts[:5], ledger)
        second, third = Engine(), Engine()
        assert complete(second, prompts, ledger) == expected
        assert complete(third, prompts, ledger) == expected
        assert ledger.usage().answers == 12
    assert all(batch in whole.batches for batch in second.batches)
    assert third.batches == []


def test_where_answers_do_not_depend_on_their_batch_only_the_missing_are_computed_and_each_once(tmp_path):
    prompts = [prompt(f"{'y' * (i % 8)} {i % 8}", str(i)) for i in range(12)]
    expected = complete(Engine(), prompts)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        complete(Engine(), prompts[:5], ledger, independent=True)
        engine = Engine()
        assert complete(engine, prompts, ledger, independent=True) == expected
    assert sorted(text for batch in engine.batches for text in batch) == sorted(text_of(p) for p in prompts[5:8])
    without = Engine()
    assert complete(without, prompts, independent=True, size=12) == expected
    assert len(without.batches[0]) == 8


def test_a_batch_that_fails_is_tried_one_by_one():
    answers = complete(Engine(), [prompt("a", "1"), prompt("too much memory", "2"), prompt("b", "3")])
    assert isinstance(answers[0], Completion)
    assert isinstance(answers[2], Completion)
    assert isinstance(answers[1], Failure)
    assert answers[1].reason == "model-error"


def test_a_failure_is_recorded_and_asked_again(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for _ in range(2):
            (failure,) = complete(Engine(), [prompt("long")], ledger)
            assert failure.reason == "context-length"
        assert dict(ledger.usage().outcomes) == {"context-length": 2}


@pytest.mark.parametrize("size", [1, 3])
def test_twins_have_one_answer(tmp_path, size):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        answers = complete(Engine(), [prompt("same", str(i)) for i in range(5)], ledger, size)
        assert len({a.text for a in answers}) == 1
        assert ledger.usage().answers == 1
