"""The OpenVINO adapter on a real small model (SmolLM2-135M, 98 MB), where that is on the machine."""

import asyncio
import os
from pathlib import Path

import pytest

from lm_mixup.errors import ModelError
from lm_mixup.ledger import Ledger
from lm_mixup.llm.openvino import OpenVINO
from lm_mixup.models import resolve
from lm_mixup.ports import Completion, Prompt

pytest.importorskip("openvino_genai", reason='needs the extra: pip install "lm-mixup[genai]"')

NAME = "smollm2-135m-instruct"
CACHE = Path(os.environ.get("LM_MIXUP_CACHE") or Path.home() / ".cache" / "lm-mixup")


@pytest.fixture(scope="module")
def path():
    try:
        return resolve(NAME, cache_dir=CACHE, offline=True)
    except ModelError as error:
        pytest.skip(f"{NAME} is not on this machine (lm-mixup models get {NAME}): {str(error)[:100]}")


@pytest.fixture(scope="module")
def model(path):
    return OpenVINO(path, context_tokens=2048)


def ask(text, id="p", **settings):
    return Prompt(id, ({"role": "user", "content": text},), **({"max_tokens": 24} | settings))


def complete(model, *prompts):
    return asyncio.run(model.complete(prompts))


def test_a_file_that_is_no_model_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="nothing there"):
        OpenVINO(tmp_path / "none.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match="cannot load"):
        OpenVINO(tmp_path / "bad.gguf")


@pytest.mark.slow
def test_it_answers_in_order_and_greedily_the_same(model):
    prompts = [ask("What is the capital of France?", "1"), ask("Hi", "2"), ask("Count to five. " * 9, "3")]
    first = complete(model, *prompts)
    assert [a.id for a in first] == ["1", "2", "3"]
    assert "Paris" in first[0].text
    assert first[0].prompt_tokens > 5
    assert complete(model, *prompts) == first


@pytest.mark.slow
def test_length_stop_schema_and_window(model):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    cut, stopped, bound, long = complete(
        model,
        ask("Tell me a long story.", max_tokens=5),
        ask("Count from one to ten in words: one, two, three,", stop=("four",)),
        ask("Is water wet? Answer as JSON.", schema=schema),
        ask("word " * 4000),
    )
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 5)
    assert "four" not in stopped.text
    assert bound.text.replace(" ", "").replace("\n", "") in ('{"a":true}', '{"a":false}')
    assert long.reason == "context-length"


@pytest.mark.slow
def test_with_a_ledger_nothing_is_computed_twice(path, tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        model = OpenVINO(path, ledger=ledger)
        first = complete(model, ask("Hi", "1"), ask("Hi", "2"))
        assert complete(model, ask("Hi", "1"), ask("Hi", "2")) == first
        assert all(isinstance(a, Completion) for a in first)
        assert ledger.usage().answers == 1
        assert ledger.usage().price_usd == 0
        assert model.key.startswith("openvino:")
        assert str(path.parent) not in model.key
