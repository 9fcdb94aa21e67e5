"""The transformers adapter on a tiny model made here; skipped where torch is not installed (it is an extra)."""

import asyncio
import json

import pytest

from lm_mixup.errors import ModelError
from lm_mixup.ledger import Ledger
from lm_mixup.ports import Completion, Prompt

torch = pytest.importorskip("torch", reason='needs the extra: pip install "lm-mixup[transformers]"')
transformers = pytest.importorskip("transformers", reason='needs the extra: pip install "lm-mixup[transformers]"')

TEMPLATE = """{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random two-layer Llama over bytes: its answers mean nothing, and are always the same."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    place = tmp_path_factory.mktemp("tiny")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<end>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    return place


def model(folder, **settings):
    from lm_mixup.llm.transformers import Transformers

    return Transformers(folder, device="cpu", dtype="float32", **settings)


def ask(text, id="p", **settings):
    return Prompt(id, ({"role": "user", "content": text},), **({"max_tokens": 12} | settings))


def complete(model, prompts):
    return asyncio.run(model.complete(prompts))


PROMPTS = [ask("x" * (7 * i % 40) + str(i), str(i)) for i in range(10)]


def test_batches_padded_on_the_left_say_what_single_prompts_say(folder):
    """In float32 on this model; in general the wording may differ in the last bits, hence the default of one."""
    single, batched = complete(model(folder), PROMPTS), complete(model(folder, batch_size=4), PROMPTS)
    assert [a.id for a in single] == [str(i) for i in range(10)]
    assert single == batched
    assert all(isinstance(a, Completion) and a.completion_tokens <= 12 for a in single)
    assert len({a.text for a in single}) > 3


def test_length_window_stop_and_seed(folder):
    llm = model(folder)
    cut, long = complete(llm, [ask("a", max_tokens=3), ask("y" * 300)])
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 3)
    assert long.reason == "context-length"
    (whole,) = complete(llm, [ask("a")])
    stop = whole.text[4:6]
    (stopped,) = complete(llm, [ask("a", stop=(stop,))])
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.finish_reason == "stop"
    hot = [complete(llm, [ask("a", temperature=1.0, seed=seed)])[0].text for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]


def test_with_a_ledger_nothing_is_computed_twice(folder, tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(folder, ledger=ledger, batch_size=4)
        assert complete(llm, PROMPTS) == complete(llm, PROMPTS)
        assert ledger.usage().attempts == 10


def test_a_schema_is_not_enforced_and_the_answer_says_so(folder):
    (answer,) = complete(model(folder), [ask("a", schema={"type": "object"})])
    assert answer.details == {"left_out": ["json_schema"]}


def test_the_key_follows_the_weights_and_not_the_place(folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert model(copy).key == model(folder).key
    config = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(config | {"top_k": 3}))
    assert model(copy).key != model(folder).key


def test_what_cannot_be_used_is_a_model_error(folder, tmp_path):
    import shutil

    with pytest.raises(ModelError, match=r"config\.json"):
        model(tmp_path)
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="chat template"):
        model(base)
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load"):
        model(pickled)
