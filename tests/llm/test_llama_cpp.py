"""The llama.cpp adapter on a real small model, where xllamacpp and the model are on the machine."""

import asyncio
import os
from pathlib import Path

import pytest

from lm_mixup.errors import ModelError
from lm_mixup.ledger import Ledger
from lm_mixup.llm.llama_cpp import LlamaCpp
from lm_mixup.llm.parsing import JUDGE_SCHEMA, parse_judgement
from lm_mixup.models import resolve
from lm_mixup.ports import Prompt

pytest.importorskip("xllamacpp", reason="needs llama.cpp: pip install xllamacpp")

NAME = "smollm2-135m-instruct"
CACHE = Path(os.environ.get("LM_MIXUP_CACHE") or Path.home() / ".cache" / "lm-mixup")


def ask(text, id="p", **settings):
    return Prompt(id, ({"role": "user", "content": text},), **({"max_tokens": 24} | settings))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="found none"):
        LlamaCpp(tmp_path / "none.gguf")


@pytest.mark.slow
def test_it_answers_keeps_the_schema_and_its_window(tmp_path):
    try:
        path = resolve(NAME, cache_dir=CACHE, offline=True)
    except ModelError as error:
        pytest.skip(f"{NAME} is not on this machine (lm-mixup models get {NAME}): {str(error)[:100]}")
    with Ledger(tmp_path / "l.sqlite") as ledger:
        model = LlamaCpp(path, ledger=ledger, context_tokens=2048, threads=1)
        prompts = [
            ask("What is the capital of France?", "1"),
            ask("Rate this: 'Hi'.", "2", schema=JUDGE_SCHEMA, max_tokens=120),
            ask("word " * 6000, "3"),
        ]
        first = asyncio.run(model.complete(prompts))
        assert [a.id for a in first] == ["1", "2", "3"]
        assert first[0].text
        assert parse_judgement(first[1].text, cut_off=first[1].finish_reason == "length")
        assert first[2].reason == "context-length"
        assert asyncio.run(model.complete(prompts))[:2] == first[:2]
        assert ledger.usage().answers == 2
