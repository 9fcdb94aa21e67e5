"""A tiny random model over bytes, and a tiny MIXTURE of our own making. Needs torch and TRL (the extra train)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_mixup.mixture.rows import Row, make_row, write_parquet
from lm_mixup.records import TaskType

TEMPLATE = """{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""
THINGS = ("iron", "salt", "wool", "glass", "cork", "clay", "lead", "silk", "wax", "coal", "tin", "bone")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    pytest.importorskip("trl", reason='needs the extra: pip install "lm-mixup[train]"')
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def make_tiny(place: Path) -> Path:
    """A random two-layer Llama over bytes, in float32."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<end>", "<pad>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=2048, eos_token_id=0, bos_token_id=None, pad_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    return place


def rows() -> list[Row]:
    """Thirty-six rows: question answering and paragraphs, an SFT part, a GRPO part and a test part."""
    made = []
    for number, thing in enumerate(THINGS):
        fact = f"{thing.capitalize()} is sold by the pound in town {number}."
        for split in ("sft", "grpo", "test"):
            more = f"The {split} market opens at {number + 5}."
            qa = f"Q: Where is {thing} sold?\nA: {fact} {more}"
            texts = (f"Q: where is {thing} sold\nA: {fact}", f"Q: Where is {thing} sold?\nA: {more}")
            if number % 3:
                texts, qa = (f"{fact} {fact}", f"{more}"), f"{fact} {more}"
            kind = TaskType.PARA if number % 3 else TaskType.QA
            made.append(
                make_row(kind, texts, qa, cot="Sample 2 adds the market.", split=split, group=f"{thing} {split}")
            )
    return made


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """The rows as a built MIXTURE."""
    return make_mixture(tmp_path / "mixture")


def make_mixture(folder: Path) -> Path:
    """The rows as a built MIXTURE."""
    folder.mkdir()
    for split in ("sft", "grpo", "test"):
        write_parquet(folder / f"{split}.parquet", [row for row in rows() if row.split == split])
    return folder
