"""The sample pool that `make demo` runs on, and the example configs of the trainers that read a train set."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_mixup.pool import PoolRow, read
from lm_mixup.records import Sample

ROOT = Path(__file__).parents[1]
POOL = ROOT / "examples" / "pool"
CONFIGS = ROOT / "examples" / "configs"
FILES = ("chats.json", "encyclopedia.jsonl", "notes.csv", "questions.jsonl", "quiz.jsonl")

BAD_ROWS = {
    "q-broken-line": "broken-json",
    "q-empty-answer": "empty-answer",
    "q-no-answer": "no-assistant-turn",
    "q-wrong-type": "wrong-type",
    "n-missing-output": "empty-answer",
    "t-empty-completion": "empty-answer",
    "m-number-answer": "empty-answer",
    "e-empty-response": "empty-answer",
    "c-user-last": "ends-with-user",
}
"""Rows that hold no sample, and why; a repeated row and an unknown task type come on top."""


def rows_of(name: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Every row of a pool file with its raw text; None for a line that is no JSON."""
    path = POOL / name
    if name.endswith(".csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield str(row), dict(row)
    elif name.endswith(".json"):
        for row in json.loads(path.read_text(encoding="utf-8")):
            yield json.dumps(row), row
    else:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield line, json.loads(line)
            except json.JSONDecodeError:
                yield line, None


def answer(row: dict[str, Any]) -> str:
    """The last answer of a row in any of the five formats, "" where there is none."""
    if "messages" in row or "conversations" in row:
        turns = row.get("messages", row.get("conversations"))
        last = turns[-1] if isinstance(turns, list) else {}
        if last.get("role", last.get("from")) not in ("assistant", "gpt"):
            return ""
        return str(last.get("content", last.get("value")) or "").strip()
    return str(row.get("completion") or row.get("response") or row.get("output") or "").strip()


ROWS = [(name, raw, row) for name in FILES for raw, row in rows_of(name)]
GOOD_JSON = [(name, row) for name, _, row in ROWS if row is not None]
FAMILY = re.compile(r"(.+)-([1-9])$")


def test_the_pool_folder_holds_the_five_files_and_their_readme() -> None:
    assert sorted(p.name for p in POOL.iterdir()) == sorted([*FILES, "README.md"])


def test_the_readme_counts_every_file() -> None:
    text = (POOL / "README.md").read_text(encoding="utf-8")
    for name, count in Counter(name for name, _, _ in ROWS).items():
        assert re.search(rf"`{re.escape(name)}` \| {count} \|", text), f"{name} has {count} rows"
    assert f"{len(ROWS)} rows" in text


def test_ids_are_unique_and_a_few_rows_have_none() -> None:
    ids = [row.get("id") for _, row in GOOD_JSON]
    assert [i for i, count in Counter(i for i in ids if i).items() if count > 1] == ["t-sound-space"]
    assert 3 <= sum(not i for i in ids) <= 12


def test_exactly_the_planned_rows_are_bad() -> None:
    bad = {row["id"] for _, row in GOOD_JSON if not answer(row)}
    broken = [raw for _, raw, row in ROWS if row is None]
    assert len(broken) == 1
    assert "q-broken-line" in broken[0]
    assert bad | {"q-broken-line"} == set(BAD_ROWS)


def test_one_row_stands_twice_and_one_names_an_unknown_task_type() -> None:
    same = Counter((row["prompt"], row["completion"]) for name, row in GOOD_JSON if name == "quiz.jsonl")
    assert [pair for pair, count in same.items() if count > 1] == [
        ("True or false: Sound travels through empty space.", "False. no air")
    ]
    types = Counter(row["task_type"] for name, row in GOOD_JSON if name == "encyclopedia.jsonl")
    assert set(types) == {"cs", "para", "limerick"}
    assert types["limerick"] == 1
    assert min(types["cs"], types["para"]) >= 20


def test_the_reader_finds_every_format_task_type_and_bad_row() -> None:
    samples: dict[str, Sample] = {}
    bad: dict[str, str] = {}
    for row in read(POOL):
        if isinstance(row, PoolRow):
            samples[row.sample.id] = row.sample
        else:
            given = re.search(rb"[qnmtec]-[a-z]+(?:-[a-z]+)+", row.raw)
            bad[given[0].decode() if given else str(row.raw)] = row.reason
    assert bad == {**BAD_ROWS, "t-sound-space": "duplicate-row"}
    assert len(samples) + len(bad) == len(ROWS)

    kinds = {"m": "mcq", "t": "tfq", "q": "qa", "n": "qa", "c": "qa"}
    for name, row in GOOD_JSON:
        given_id = row.get("id") or ""
        if given_id in samples:
            expected = kinds[given_id[0]] if given_id[0] in kinds else row["task_type"]
            # an answer that names no option, and a task type that does not exist, read as questions
            expected = "qa" if given_id in ("m-out-of-range", "e-unknown-type") else expected
            assert samples[given_id].task_type == expected, f"{name} {given_id}"
    languages = {sample.language for sample in samples.values()}
    assert {"en", "de", "fr", "es", "ja"} <= languages
    assert sum(sample.turns > 1 for sample in samples.values()) >= 8
    assert any(sample.messages[0].role == "system" for sample in samples.values())


def test_a_family_has_two_to_four_different_answers_and_stays_in_one_file() -> None:
    families: dict[str, list[tuple[str, str]]] = {}
    for name, row in GOOD_JSON:
        found = FAMILY.match(row.get("id") or "")
        if found:
            families.setdefault(found[1], []).append((name, answer(row)))
    assert len(families) >= 60
    for family, members in families.items():
        assert 2 <= len(members) <= 4, family
        assert len({name for name, _ in members}) == 1, family
        assert len({text for _, text in members}) == len(members), family


def test_a_good_row_is_much_longer_than_a_variant() -> None:
    best = [len(answer(row)) for _, row in GOOD_JSON if (row.get("id") or "").endswith("-best")]
    poor = sorted(len(answer(row)) for _, row in GOOD_JSON if FAMILY.match(row.get("id") or ""))
    assert len(best) >= 45
    assert min(best) > poor[int(0.9 * len(poor))]


def test_one_row_tries_a_prompt_injection() -> None:
    assert sum("Ignore previous instructions" in raw for _, raw, _ in ROWS) == 1


def test_the_llama_factory_config_finds_its_data_set() -> None:
    config = yaml.safe_load((CONFIGS / "llamafactory_sft.yaml").read_text(encoding="utf-8"))
    info = json.loads((CONFIGS / "dataset_info.json").read_text(encoding="utf-8"))
    entry = info[config["dataset"]]
    assert entry["file_name"] == "train.jsonl"
    assert entry["columns"] == {"messages": "messages"}
    # LLaMA-Factory's "openai" formatting adds "detailed thinking off" to every system prompt
    assert entry["formatting"] == "sharegpt"
    # the names of LLaMA-Factory's DatasetAttr, and of its arguments with those of transformers
    assert set(entry["tags"]) <= {
        *("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
    }
    assert set(config) <= {
        *("model_name_or_path", "stage", "do_train", "finetuning_type"),
        *("lora_rank", "lora_alpha", "lora_dropout", "lora_target"),
        *("dataset_dir", "dataset", "template", "cutoff_len", "preprocessing_num_workers"),
        *("output_dir", "logging_steps", "save_strategy", "plot_loss", "report_to"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs"),
        *("lr_scheduler_type", "warmup_ratio", "bf16", "seed"),
    }


def test_the_axolotl_config_reads_messages() -> None:
    config = yaml.safe_load((CONFIGS / "axolotl_sft.yml").read_text(encoding="utf-8"))
    (dataset,) = config["datasets"]
    assert dataset["type"] == "chat_template"
    assert dataset["field_messages"] == "messages"
    assert dataset["roles_to_train"] == ["assistant"]
    assert dataset["path"].endswith("train.jsonl")
    # the names of axolotl's AxolotlInputConfig and SFTDataset
    assert set(dataset) <= {
        *("path", "ds_type", "type", "field_messages", "message_property_mappings", "roles_to_train", "train_on_eos")
    }
    assert set(config) <= {
        *("base_model", "datasets", "dataset_prepared_path", "val_set_size", "output_dir", "sequence_len"),
        *("sample_packing", "attn_implementation", "adapter", "lora_r", "lora_alpha", "lora_dropout"),
        *("lora_target_linear", "micro_batch_size", "gradient_accumulation_steps", "num_epochs", "learning_rate"),
        *("lr_scheduler", "warmup_ratio", "optimizer", "weight_decay", "bf16", "gradient_checkpointing"),
        *("logging_steps", "saves_per_epoch", "seed"),
    }


CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message.content }}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def write_train_set(path: Path) -> None:
    """Ten rows as a run writes them: of one turn, of two, and with a system prompt."""
    rows = []
    for number in range(10):
        messages = [
            {"role": "user", "content": f"What is {number} times seven?"},
            {"role": "assistant", "content": f"It is {7 * number}, since seven times {number} makes {7 * number}."},
        ]
        if number % 3 == 1:
            messages += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Quite sure."}]
        if number % 3 == 2:
            messages.insert(0, {"role": "system", "content": "You are a patient teacher."})
        rows.append({"id": f"row-{number}", "messages": messages})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def save_tiny_model(folder: Path, texts: list[str]) -> None:
    """A Llama of a few thousand random weights and a byte-level tokenizer of 300 entries, with a chat template."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=300, special_tokens=["<pad>", "<end>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, pad_token="<pad>", eos_token="<end>")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    ).save_pretrained(folder)


def need_trl() -> None:
    for package in ("torch", "trl"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install "lm-mixup[train]"')


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--all-turns",)], ids=["last answer", "all turns"])
def test_the_trl_script_trains_on_a_train_set(tmp_path: Path, flags: tuple[str, ...]) -> None:
    need_trl()
    train, model, output = tmp_path / "train.jsonl", tmp_path / "model", tmp_path / "out"
    write_train_set(train)
    save_tiny_model(model, train.read_text(encoding="utf-8").splitlines())
    script = [sys.executable, str(CONFIGS / "trl_sft.py"), str(train), "--model", str(model), "-o", str(output)]
    done = subprocess.run(
        [*script, "--max-steps", "2", "--batch-size", "2", *flags],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]

    state = json.loads((output / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert (output / "checkpoint-2" / "model.safetensors").is_file()
    assert (output / "model.safetensors").is_file()
    assert (output / "tokenizer_config.json").is_file()
    assert re.search(r"^2 steps, mean loss \d+\.\d+: ", done.stdout, re.MULTILINE)


def test_trl_reads_the_rows_as_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_trl()
    import importlib.util

    from trl import is_conversational

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("trl_sft", CONFIGS / "trl_sft.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    write_train_set(tmp_path / "train.jsonl")

    answers = script.conversations(tmp_path / "train.jsonl", all_turns=False)
    assert len(answers) == 10
    assert all(is_conversational(row) for row in answers)
    assert set(answers.column_names) == {"prompt", "completion"}
    assert [m["role"] for m in answers[1]["prompt"]] == ["user", "assistant", "user"]
    assert answers[1]["completion"][0]["content"] == "Quite sure."
    assert [m["role"] for m in answers[2]["prompt"]] == ["system", "user"]

    turns = script.conversations(tmp_path / "train.jsonl", all_turns=True)
    assert turns.column_names == ["messages"]
    assert all(is_conversational(row) for row in turns)
