"""Examples for training, and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import PoolError
from lm_mixup.llm.parsing import parse_think_answer
from lm_mixup.training.data import examples
from lm_mixup.training.order import batched_by_length
from lm_mixup.training.recipe import DataSettings


def length(prompt, completion):
    return sum(len(m["content"]) for m in prompt) + len(completion)


def test_rows_become_prompts_and_answers_of_the_asked_form(mixture):
    found = examples(mixture, "sft", DataSettings(), count_tokens=length)
    assert len(found.examples) == 12
    assert found.left_out == {}
    for example in found.examples:
        parts = parse_think_answer(example.completion)
        assert parts is not None
        assert (parts.think, parts.answer) == ("Sample 2 adds the market.", example.reference)
        assert all(f"Sample {n}:\n{text}" in example.prompt[1]["content"] for n, text in enumerate(example.variants, 1))


def test_what_is_left_out_is_counted(mixture):
    found = examples(
        mixture, "grpo", DataSettings(types=("para",), cot="none", max_tokens=400), count_tokens=length, seed=3
    )
    assert found.left_out["other-type"] == 4
    assert len(found.examples) + sum(found.left_out.values()) == 12
    assert all(length(e.prompt, e.completion) <= 400 for e in found.examples)
    with pytest.raises(PoolError, match="too-long"):
        examples(mixture, "grpo", DataSettings(max_tokens=64), count_tokens=length)
    with pytest.raises(PoolError, match="no row of the split 'dev'"):
        examples(mixture, "dev", DataSettings(), count_tokens=length)


def test_a_limit_is_spread_over_the_types(mixture):
    found = examples(mixture, "sft", DataSettings(limit=6), count_tokens=length)
    kinds = [str(e.task_type) for e in found.examples]
    assert sorted(kinds) == ["para"] * 3 + ["qa"] * 3
    assert found.left_out == {"limit": 6}
    assert found.digest != examples(mixture, "sft", DataSettings(limit=5), count_tokens=length).digest


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=200),
    st.integers(1, 16),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, 5),
)
def test_each_epoch_holds_every_row_once(lengths, batch, epochs, seed):
    order = batched_by_length(lengths, batch=batch, epochs=epochs, seed=seed)
    assert order == batched_by_length(lengths, batch=batch, epochs=epochs, seed=seed)
    whole = int(epochs)
    for epoch in range(whole):
        assert sorted(order[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))
    rest = order[whole * len(lengths) :]
    assert len(set(rest)) == len(rest) <= len(lengths)
    assert bool(rest) == (epochs > whole)


def test_batches_hold_rows_of_like_length():
    lengths = [(i * 37) % 400 for i in range(400)]
    order = batched_by_length(lengths, batch=8, epochs=1, seed=0)
    padding = sum(8 * max(lengths[i] for i in order[b : b + 8]) for b in range(0, 400, 8)) / sum(lengths)
    assert padding < 1.1
