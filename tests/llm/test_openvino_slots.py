"""Many prompts at a time in OpenVINO, on a tiny random model: an answer depends on its prompt alone."""

import asyncio
import random

import pytest

pytest.importorskip("openvino_genai", reason='needs the extra: pip install "lm-mixup[genai]"')
pytest.importorskip("gguf", reason='needs the extra: pip install "lm-mixup[genai]"')

from lm_mixup.errors import ModelError
from lm_mixup.ledger import Ledger
from lm_mixup.llm.openvino_slots import OpenVINOSlots
from lm_mixup.ports import LLM, Completion, Prompt
from tests.llm import tiny

WORDS = ["tea", "leaf", "water", "cup", "hot", "green", "black", "brew", "steep", "old", "fine", "dark", "sweet"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny.write_gguf(tmp_path_factory.mktemp("m") / "tiny.gguf", tiny.weights())


@pytest.fixture(scope="module")
def model(path):
    return OpenVINOSlots(path, slots=4, engines=2)


def ask(number, **settings):
    rng = random.Random(number)
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 60)))
    return Prompt(str(number), ({"role": "user", "content": text},), **({"max_tokens": 24} | settings))


def complete(model, prompts):
    return asyncio.run(model.complete(prompts))


def test_answers_do_not_depend_on_what_is_beside_them(model, path):
    assert isinstance(model, LLM)
    prompts = [ask(i, max_tokens=8 + i % 5) for i in range(24)]
    together = complete(model, prompts)
    assert [a.id for a in together] == [p.id for p in prompts]
    assert all(isinstance(a, Completion) for a in together)
    assert complete(model, prompts[::-1]) == together[::-1]
    assert [complete(model, [p])[0] for p in prompts[:6]] == together[:6]
    wide = OpenVINOSlots(path, slots=16, engines=1)
    assert complete(wide, prompts) == together
    assert wide.key == model.key
    assert len({a.text for a in together}) > 12


def test_guessing_ahead_depends_on_the_prompt_alone_too(path):
    wide = OpenVINOSlots(path, slots=16, engines=1, lookup=4)
    prompts = [ask(i, max_tokens=40 + i % 5) for i in range(24)]
    together = complete(wide, prompts)
    assert [a.completion_tokens for a in together if a.finish_reason == "length"] == [
        p.max_tokens for p, a in zip(prompts, together, strict=True) if a.finish_reason == "length"
    ]
    assert complete(wide, prompts[::-1]) == together[::-1]
    assert [complete(wide, [p])[0] for p in prompts[:6]] == together[:6]
    assert complete(OpenVINOSlots(path, slots=3, engines=2, lookup=4), prompts) == together
    # several tokens in one pass are rounded otherwise; random weights make all tokens about as likely
    plain = complete(OpenVINOSlots(path, slots=4, engines=1), prompts)
    assert sum(a.text == b.text for a, b in zip(plain, together, strict=True)) >= 12


def test_answers_that_are_no_plain_copying_are_not_guessed(path, model):
    guessing = OpenVINOSlots(path, slots=4, engines=1, lookup=4)
    assert guessing.key != model.key
    for settings in ({"repetition_penalty": 1.2}, {"temperature": 1.0, "seed": 7}, {"stop": ("e",)}):
        prompts = [ask(i, **settings) for i in range(3)]
        assert complete(guessing, prompts) == complete(model, prompts)


def test_tokens_are_counted_and_the_limit_is_kept(model):
    (answer,) = complete(model, [ask(1, max_tokens=7)])
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 7)
    text = f"<|im_start|>user\n{ask(1).messages[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    assert answer.prompt_tokens == model.count_tokens(text)


def test_a_stop_ends_the_answer(model):
    (whole,) = complete(model, [ask(2)])
    stop = next(c for c in whole.text[1:] if c.isascii() and c.isalpha())
    (cut,) = complete(model, [ask(2, stop=(stop,))])
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")


def test_a_prompt_that_does_not_fit_fails_alone(path):
    model = OpenVINOSlots(path, context_tokens=100, engines=1)
    long = Prompt("long", ({"role": "user", "content": "tea " * 60},), max_tokens=24)
    good, bad = complete(model, [Prompt("a", ({"role": "user", "content": "tea"},), max_tokens=24), long])
    assert isinstance(good, Completion)
    assert (bad.reason, bad.detail) == ("context-length", bad.detail)
    assert "76 fit beside the answer" in bad.detail


def test_drawn_answers_follow_their_seed_alone(model):
    prompts = [ask(i, temperature=1.0, seed=7) for i in range(6)]
    drawn = complete(model, prompts)
    assert complete(model, prompts[::-1]) == drawn[::-1]
    assert complete(model, prompts[2:3]) == drawn[2:3]
    assert complete(model, [ask(2, temperature=1.0, seed=8)])[0].text != drawn[2].text


def test_with_a_ledger_only_what_is_missing_is_computed(path, tmp_path):
    prompts = [ask(i) for i in range(10)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        model = OpenVINOSlots(path, ledger=ledger, engines=1)
        first = complete(model, prompts[:4])
        again = complete(OpenVINOSlots(path, ledger=ledger, engines=1), prompts)
        assert again[:4] == first
        assert ledger.usage().answers == 10
    assert complete(OpenVINOSlots(path, engines=1), prompts) == again


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(ModelError, match="nothing there"):
        OpenVINOSlots(tmp_path / "none.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match="cannot load"):
        OpenVINOSlots(tmp_path / "bad.gguf")
