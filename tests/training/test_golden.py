"""Five steps of SFT and of GRPO give what is stored; a killed training goes on as if nothing happened."""

import json
import os

import pytest

pytest.importorskip("trl", reason='needs the extra: pip install "lm-mixup[train]"')

from lm_mixup.errors import RunError
from lm_mixup.training.sft import train_sft
from tests.training import make_golden as golden

SFT = ("loss", "learning_rate", "tokens")
GRPO = ("loss", "reward", "reward_spread", "kl", "alignment", "format", "coverage", "grounding")


@pytest.fixture
def stored():
    return json.loads(golden.GOLDEN.read_text())


def near(found, wanted):
    assert [line.keys() for line in found] == [line.keys() for line in wanted]
    for line, told in zip(found, wanted, strict=True):
        assert line == pytest.approx(told, abs=1e-4)


def test_sft_gives_the_stored_losses(tiny, mixture, tmp_path, stored):
    near(golden.figures(golden.sft_lines(tiny, mixture, tmp_path / "sft"), SFT), stored["sft"])
    losses = [line["loss"] for line in stored["sft"]]
    assert losses[-1] < losses[0] - 0.1, "the golden itself must show that something is learned"


def test_grpo_on_replayed_rollouts_gives_the_stored_losses_and_rewards(tiny, mixture, tmp_path, stored):
    found = golden.figures(golden.grpo_lines(tiny, mixture, tmp_path / "grpo"), GRPO)
    near(found, stored["grpo"])
    assert len({line["reward"] for line in found}) > 1
    assert any(abs(line["loss"]) > 1e-3 for line in found)


def test_a_killed_training_goes_on_as_if_nothing_happened(tiny, mixture, tmp_path, stored):
    asked = golden.recipe(**{"model.name": str(tiny)})
    out = tmp_path / "sft"
    train_sft(mixture, out, asked, cache_dir=tmp_path, max_steps=3)
    (out / "log.jsonl").open("ab").write(b'{"step":4,"loss":9.0')  # what a kill leaves
    with pytest.raises(RunError, match="--resume"):
        train_sft(mixture, out, asked, cache_dir=tmp_path)
    other = golden.recipe(**{"model.name": str(tiny), "sft.batch": 3})
    with pytest.raises(RunError, match=r"recipe\.sft\.batch was 2, is 3"):
        train_sft(mixture, out, other, cache_dir=tmp_path, resume=True)
    train_sft(mixture, out, asked, cache_dir=tmp_path, resume=True, max_steps=golden.STEPS)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    near(golden.figures(lines, SFT), stored["sft"])


def test_the_model_comes_with_what_it_is(tiny, mixture, tmp_path):
    golden.sft_lines(tiny, mixture, tmp_path / "sft")
    told = json.loads((tmp_path / "sft" / "lm_mixup.json").read_text())
    assert (told["adapter"], told["steps"], told["rows"], told["prompt"]) == (True, golden.STEPS, 12, "compact")
    card = (tmp_path / "sft" / "README.md").read_text()
    assert told["data_digest"] in card
    assert os.path.getsize(tmp_path / "sft" / "adapter_model.safetensors") < 100_000


def test_all_weights_can_be_trained(tiny, mixture, tmp_path):
    lines = golden.sft_lines(tiny, mixture, tmp_path / "full", **{"lora.rank": 0})
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert (tmp_path / "full" / "model.safetensors").is_file()
    assert not (tmp_path / "full" / "adapter_model.safetensors").exists()


def test_an_adapter_is_trained_further(tiny, mixture, tmp_path):
    first = golden.sft_lines(tiny, mixture, tmp_path / "first")
    second = golden.sft_lines(tmp_path / "first", mixture, tmp_path / "second", seed=1)
    assert second[0]["loss"] < first[0]["loss"] - 0.1
    told = json.loads((tmp_path / "second" / "lm_mixup.json").read_text())
    assert told["base"] == str(tiny)
    assert (told["begun_with"]["folder"], told["begun_with"]["steps"]) == ("first", golden.STEPS)


def test_a_model_trained_further_on_shorter_rows_still_reads_what_it_read(tiny, mixture, tmp_path):
    golden.sft_lines(tiny, mixture, tmp_path / "first")
    golden.sft_lines(tmp_path / "first", mixture, tmp_path / "second", **{"data.max_tokens": 1500})
    told = json.loads((tmp_path / "second" / "lm_mixup.json").read_text())
    assert (told["max_tokens"], told["recipe"]["data"]["max_tokens"]) == (2000, 1500)
