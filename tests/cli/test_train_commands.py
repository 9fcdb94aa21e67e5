"""``lm-mixup train`` where there is nothing to train with, and its recipes. Training itself: tests/training."""

import importlib.util
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from lm_mixup.cli.main import app
from lm_mixup.errors import LMMixupError, MissingExtraError, RecipeError
from lm_mixup.training import recipe

WITHOUT_TORCH = importlib.util.find_spec("torch") is None


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "lm_mixup", "train", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("sft", "grpo", "preflight"))


@pytest.mark.skipif(not WITHOUT_TORCH, reason="shows what happens without torch; it is installed here")
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "some/model"])
def test_without_the_extra_the_error_names_it(tmp_path, name, monkeypatch):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"")
    monkeypatch.setattr("lm_mixup.models.resolve", lambda *a, **k: model)
    done = run("train", "sft", "--data", str(tmp_path), "-o", str(tmp_path / "out"), "--model", name, "--recipe", "cpu")
    assert isinstance(done.exception, MissingExtraError)
    assert "lm-mixup[train]" in str(done.exception)


def test_grpo_wants_a_cold_start(tmp_path):
    done = run("train", "grpo", "--data", str(tmp_path), "-o", str(tmp_path / "o"), "--model", str(tmp_path))
    assert isinstance(done.exception, LMMixupError)
    assert "lm-mixup train sft" in str(done.exception)


def test_recipes_name_what_is_wrong(tmp_path):
    with pytest.raises(RecipeError, match=r"did you mean 'grpo\.rollouts'"):
        recipe.load("cpu", ["grpo.rolouts=3"])
    with pytest.raises(RecipeError, match="cpu, gpu"):
        recipe.load("tpu")
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"sft": {"epochs": 2}}))
    assert recipe.load(own, ["sft.batch=4"], {"model.name": "x"}).model_dump()["sft"]["epochs"] == 2


def test_the_defaults_are_the_papers():
    paper, cpu = recipe.load(), recipe.load("cpu")
    assert recipe.load("gpu") == paper
    assert (paper.sft.epochs, paper.sft.learning_rate, paper.data.max_tokens) == (3, 2e-5, 2400)
    assert (paper.grpo.prompts, paper.grpo.rollouts, paper.grpo.learning_rate, paper.grpo.kl) == (128, 4, 1e-6, 0.01)
    assert (paper.rewards.quality, paper.rewards.alignment, paper.rewards.format) == (0.5, 0.4, 0.1)
    assert (cpu.model.name, cpu.data.max_tokens, cpu.lora.rank) == ("smollm2-135m-instruct", 512, 16)
