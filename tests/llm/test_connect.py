"""From a spec to an adapter."""

import json

import pytest

from lm_mixup.errors import InputError, LMMixupError, RecipeError
from lm_mixup.llm.connect import connect, split_endpoint
from lm_mixup.llm.openai_compatible import OPENAI_URL, OpenAICompatible
from lm_mixup.llm.scripted import Scripted


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gpt-4o-mini", ("gpt-4o-mini", "")),
        ("qwen2.5:7b@http://localhost:11434/v1", ("qwen2.5:7b", "http://localhost:11434/v1")),
        ("org/name@rev@https://host/v1", ("org/name@rev", "https://host/v1")),
    ],
)
def test_model_and_address(text, parts):
    assert split_endpoint(text) == parts


def test_an_endpoint():
    llm = connect("openai:qwen2.5:7b@http://localhost:11434/v1/", api_key="sk-secret-1", concurrency=3)
    assert isinstance(llm, OpenAICompatible)
    assert (llm.model, llm.base_url, llm.concurrency.maximum) == ("qwen2.5:7b", "http://localhost:11434/v1", 3)
    assert "sk-secret-1" not in repr(llm)
    assert connect("openai:gpt-4o-mini").base_url == OPENAI_URL


def test_a_script(tmp_path):
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"": "yes"}))
    assert isinstance(connect(f"scripted:{file}"), Scripted)


@pytest.mark.parametrize("spec", ["", "gpt-4o", "openai:", "ollama:x", ":x"])
def test_other_specs_are_told_the_forms(spec):
    with pytest.raises(RecipeError, match="openai:MODEL@URL"):
        connect(spec)


def test_a_login_in_the_address_is_refused_and_not_repeated():
    for spec in ("openai:m@http://me:hunter2@host/v1", "m@http://me:hunter2@host/v1"):
        with pytest.raises(InputError) as caught:
            connect(spec)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", ["openvino", "transformers", "llama-cpp"])
def test_a_local_model_that_is_not_there_is_named(kind, tmp_path):
    with pytest.raises(LMMixupError, match=r"nowhere|not installed"):
        connect(f"{kind}:{tmp_path}/nowhere", cache_dir=tmp_path, offline=True)
